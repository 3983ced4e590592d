"""counterlens caption, its file as a captioner, and what doctor says of captioners and segmenters."""

import json

import numpy as np
import pytest
from PIL import Image

from counterlens.core.engine.request import Request
from counterlens.core.engine.session import explain
from counterlens.core.plugin.registry import load_registry


@pytest.fixture
def picture(tmp_path):
    def make(folder, seed=0):
        path = tmp_path / folder / "x.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 32, 3), dtype=np.uint8)).save(path)
        return path

    return make


def test_every_caption_names_its_class(cli, picture):
    """C14, C16: names go with their pictures, whatever the order, and are spelled as the classifier does."""
    done = cli("caption", picture("fire_engine"), "shapes:0", picture("Ram C"), "digits:3", "--json")
    assert done.code == 0
    for row, said in zip(done.rows, ("a fire engine", "a bouba", "a Ram C", "a "), strict=True):
        assert row["caption"].startswith(f"a photo of {said}") or row["caption"].startswith("a photo of an ")
        assert row["label"].replace("_", " ") in row["caption"] and row["note"] == ""
    one = cli("caption", picture("x"), "--label", "Bugatti Veyron 16.4", "--json")
    assert one.rows[0]["caption"] == "a photo of a Bugatti Veyron 16.4"
    decided = cli("caption", "shapes:0", "--classifier", "domain:shapes", "--json")
    assert decided.rows[0]["label"] == "bouba"


def test_a_caption_that_does_not_name_it(cli):
    plain = "template text='a thing'"
    assert "did not name 'bouba'" in cli("caption", "shapes:0", "--captioner", plain, "--json").rows[0]["note"]
    refused = cli("caption", "shapes:0", "--captioner", f"{plain} missing=refuse")
    assert refused.code == 2 and "does not name its class 'bouba'" in refused.err
    missing = cli("caption", "shapes:0", "--captioner", "openflamingo checkpoint=none.pt")
    assert missing.code == 4 and ("hf download" in missing.err or "--no-deps open_flamingo" in missing.err)


def test_written_once_and_used_by_explain(cli, picture, tmp_path):
    path = picture("pictures")
    made = cli("caption", path, "--label", "bouba", "--size", "32", "--out", "captions.jsonl")
    assert made.code == 0 and json.loads((tmp_path / "captions.jsonl").read_text())["caption"] == "a photo of a bouba"
    registry, shared = (
        load_registry(third_party=False),
        {"method": "reconstruct", "steps": 2, "editors": ("prompt-to-prompt",)},
    )
    shared |= {"model": "domain:shapes/stable-diffusion", "classifier": "domain:shapes"}
    request = Request(images=(str(path),), captioner="template text='{a} red {label}'", **shared)
    (record,) = explain(request, registry, out=tmp_path / "runs")
    assert record["failure"] is None and not [note for note in record["notes"] if "did not name" in note]
    (bare,) = explain(Request(images=(str(path),), **shared), registry, out=tmp_path / "runs")
    assert any("did not name" in note for note in bare["notes"]), "without a caption the name is put in"


def test_doctor_knows_captioners_and_segmenters(cli):
    rows = {row["name"]: row for row in cli("doctor", "--json").rows}
    for name in ("openflamingo", "spaCy en_core_web_sm", "SAM checkpoint", "SAM-HQ checkpoint"):
        assert rows[name]["status"] == "ok" or rows[name]["fix"], name
