"""From a photograph to a record and a report, on tiny random weights in the real layout."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from counterlens.core.engine.prepare import prepare
from counterlens.core.engine.request import Request
from counterlens.core.engine.session import Session, explain
from counterlens.core.errors import PlanError, UsageError
from counterlens.core.plugin import registry as registries
from counterlens.core.runs.folder import Run, list_runs
from counterlens.core.testing.tiny import tiny


@pytest.fixture(scope="module")
def registry():
    return registries.load_registry(third_party=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a pipeline, a classifier and a few photographs."""
    folder = tmp_path_factory.mktemp("place")
    tiny("ddpm", folder / "model")
    (folder / "brighter.py").write_text(
        "import torch\n"
        "labels, size, mean, std = ('left', 'right'), (8, 8), (0.5,) * 3, (0.5,) * 3\n"
        "def build():\n"
        "    head = torch.nn.Linear(192, 2)\n"
        "    w = torch.zeros(2, 3, 8, 8); w[0, :, :, :4] = 1; w[0, :, :, 4:] = -1\n"
        "    head.load_state_dict({'weight': w.flatten(1) / 8, 'bias': torch.zeros(2)})\n"
        "    net = torch.nn.Sequential(torch.nn.Flatten(), head)\n"
        "    net.labels, net.size, net.mean, net.std = labels, size, mean, std\n"
        "    return net\n"
        "def black_box(images):\n"
        "    seen = torch.nn.functional.interpolate(images, (8, 8))\n"
        "    return build()((seen - 0.5) / 0.5).softmax(1).detach().numpy()\n"
        "black_box.labels = labels\n"
    )
    rng = np.random.default_rng(0)
    for i in range(5):
        pixels = rng.integers(60, 160, (40, 48, 3))
        pixels[:, :24] += 60 if i % 2 == 0 else 0
        pixels[:, 24:] += 60 if i % 2 else 0
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"photo{i}.png")
    return folder


@pytest.fixture(autouse=True)
def importable(place, monkeypatch):
    monkeypatch.syspath_prepend(str(place))


def request(place, *numbers, **options):
    base = {
        "images": tuple(str(place / f"photo{i}.png") for i in numbers or (0,)),
        "model": str(place / "model"),
        "classifier": "python:brighter:build",
        "steps": 6,
        "search": "sweep strengths=0.05,0.3,1 skips=0.4",
    }
    return Request(**{**base, **options})


WANTED = [
    "digest",
    "image",
    "source",
    "target",
    "method",
    "model",
    "flipped",
    "p_target_before",
    "p_target_after",
    "judge_flipped",
    "l1",
    "unet_evaluations",
    "seconds",
    "peak_bytes",
    "counterfactual",
]


def test_a_photograph_becomes_a_record_pictures_and_a_report(place, registry, tmp_path):
    notices = []
    asked = request(place, 0, target="right", judge="python:brighter:build")
    (record,) = explain(asked, registry, out=tmp_path, on_notice=notices.append)
    assert not set(WANTED) - record.keys()
    assert (record["source"], record["target"]) == ("left", "right") and record["failure"] is None
    assert record["p_target_after"] > record["p_target_before"] and record["unet_evaluations"] > 0
    assert record["judge_flipped"] == record["flipped"], "the judge is the same network here"
    assert any("crop" in note for note in record["notes"])
    (run,) = list_runs(tmp_path)
    assert run.status == "done" and run.manifest["versions"]["torch"]
    assert "<html" in (run.path / "report.html").read_text()
    after = np.asarray(Image.open(record["counterfactual"]).convert("RGB")).astype(float)
    before = np.asarray(Image.open(Path(record["counterfactual"]).with_name("source.png")).convert("RGB")).astype(float)
    assert abs(np.abs(after - before).mean() / 255 - record["l1"]) < 1e-5


def test_a_second_call_keeps_what_was_finished(place, registry, tmp_path):
    first = list(explain(request(place, 0, 1), registry, out=tmp_path))
    again = list(explain(request(place, 0, 1), registry, out=tmp_path))
    assert [r["seconds"] for r in again] == [r["seconds"] for r in first] and len(list_runs(tmp_path)) == 1
    Path(first[0]["counterfactual"]).unlink()
    mended = list(explain(request(place, 0, 1), registry, out=tmp_path))
    assert Path(mended[0]["counterfactual"]).exists() and mended[1]["seconds"] == first[1]["seconds"]
    list(explain(request(place, 0, 1), registry, out=tmp_path, again="always"))
    assert len(list_runs(tmp_path)) == 2


def numbers(record):
    return {k: record[k] for k in ("digest", "source", "target", "flipped", "strength", "unet_evaluations")}


def test_results_do_not_depend_on_order_or_batch(place, registry, tmp_path):
    straight = list(explain(request(place, 0, 1, 2, 3, 4), registry, out=tmp_path / "a"))
    mixed = list(explain(request(place, 3, 1, 4, 0, 2, batch=2), registry, out=tmp_path / "b"))
    by_name = {r["image"]: r for r in mixed}
    for record in straight:
        other = by_name[record["image"]]
        assert numbers(record) == numbers(other)
        assert abs(record["p_target_after"] - other["p_target_after"]) < 1e-3


def test_an_image_already_decided_so_is_a_row_among_others_and_an_error_alone(place, registry, tmp_path):
    rows = list(explain(request(place, 0, 1, target="right"), registry, out=tmp_path))
    assert rows[0]["failure"] is None and "already decided" in rows[1]["failure"] and not rows[1]["flipped"]
    with pytest.raises(UsageError, match="already decided as 'right'"):
        list(explain(request(place, 1, target="right"), registry, out=tmp_path))


def test_an_unknown_target_gets_a_suggestion(place, registry, tmp_path):
    with pytest.raises(UsageError, match="right"):
        list(explain(request(place, 0, target="rihgt"), registry, out=tmp_path))
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_a_black_box_cannot_guide(place, registry, tmp_path):
    with pytest.raises(PlanError, match="gradient"):
        list(explain(request(place, 0, classifier="python:brighter:black_box"), registry, out=tmp_path))
    (record,) = explain(
        request(place, 0, classifier="python:brighter:black_box", method="reconstruct", search=None),
        registry,
        out=tmp_path,
    )
    assert not record["flipped"] and record["l1"] < 0.01


def test_pieces_are_added_and_replaced_on_the_command_line(place, registry):
    prepared = prepare(request(place, guidance=("target loss=margin",), regularizers=("l1 weight=0.1",)), registry)
    names = [(row.kind, row.name) for row in prepared.plan]
    assert ("regularizer", "l1") in names and names.count(("guidance", "target")) == 1
    assert prepared.composition.guidance[0].loss == "margin"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "guidde"}, "did you mean 'guided'"),
        ({"guidance": ("tarquet",)}, "did you mean 'target'"),
        ({"regularizers": ("l1 wieght=1",)}, "did you mean 'weight'"),
        ({"regularizers": ("l1 weight=-1",)}, "greater than or equal to 0"),
        ({"combiner": "cfg scale=3"}, "null-branch"),
        ({"regularizers": ("background-l2",)}, "needs 'map'"),
        ({"images": ("nowhere.png",)}, "nowhere.png"),
        ({"model": "nowhere/at-all"}, "nowhere"),
        ({"classifier": "fiel:x"}, "file"),
        ({"device": "cuda:99"}, "cuda"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(place, registry, tmp_path, options, words):
    from counterlens.core.errors import CounterlensError

    with pytest.raises(CounterlensError, match=words) as caught:
        list(explain(request(place, 0, **{"offline": True, **options}), registry, out=tmp_path))
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_map_keeps_the_background_and_has_a_shape(place, registry, tmp_path):
    size = prepare(request(place), registry) and Image.open(place / "photo0.png").size
    Image.fromarray(np.full(size[::-1], 255, np.uint8)).save(tmp_path / "map.png")
    (record,) = explain(
        request(place, 0, map=str(tmp_path / "map.png"), regularizers=("background-l2",)), registry, out=tmp_path / "r"
    )
    assert record["failure"] is None
    Image.fromarray(np.full((7, 9), 255, np.uint8).repeat(2, 0).repeat(2, 1)).save(tmp_path / "odd.png")
    with pytest.raises(UsageError, match=r"the map is 18x14 and .* is 48x40"):
        list(explain(request(place, 0, map=str(tmp_path / "odd.png")), registry, out=tmp_path / "r"))


def test_one_broken_image_does_not_take_the_others_with_it(place, registry, tmp_path, monkeypatch):
    from counterlens.plugins.guidance.target import Target

    plain = Target.__call__

    def broken(self, view, step):
        bad = [item.name.endswith("photo2.png") for item in view.scene.items]
        return plain(self, view, step) * torch.tensor([float("nan") if b else 1.0 for b in bad])

    monkeypatch.setattr(Target, "__call__", broken)
    rows = list(explain(request(place, 0, 1, 2, 3), registry, out=tmp_path))
    assert [bool(r["failure"]) for r in rows] == [False, False, True, False]
    assert "not finite" in rows[2]["failure"]


def test_a_session_loads_once(place, registry, tmp_path):
    session = Session(registry)
    for i in (0, 1):
        list(session.run(prepare(request(place, i), registry), tmp_path))
    assert len([key for key in session.pool.held() if key.model == str(place / "model")]) == 1


def test_the_manifest_is_a_birth_certificate(place, registry, tmp_path):
    list(explain(request(place, 0, seed=3), registry, out=tmp_path))
    (run,) = list_runs(tmp_path)
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert manifest["seeds"] == {"user": 3} and manifest["weights"] and manifest["plan"]
    assert Run.open(run.path).manifest["request"]["steps"] == 6


def test_a_seed_changes_the_result(place, registry, tmp_path):
    one, two = (next(explain(request(place, 0, seed=s), registry, out=tmp_path)) for s in (0, 1))
    assert one["digest"] != two["digest"] and one["p_target_after"] != two["p_target_after"]


def test_safetensors_only(place, registry, tmp_path):
    torch.save({"w": torch.zeros(1)}, tmp_path / "net.pt")
    with pytest.raises(UsageError, match="safetensors"):
        list(explain(request(place, 0, classifier=f"file:{tmp_path / 'net.pt'}"), registry, out=tmp_path / "r"))
    save_file({"w": torch.zeros(1)}, tmp_path / "net.safetensors")
    with pytest.raises(UsageError):
        list(
            explain(request(place, 0, classifier=f"file:{tmp_path / 'net.safetensors'}"), registry, out=tmp_path / "r")
        )


@pytest.mark.parametrize("family", ["stable-diffusion", "sdxl", "kandinsky22", "deepfloyd-if", "ldm"])
def test_every_family_explains_and_comes_back_clean(place, registry, tmp_path, family):
    tiny(family, tmp_path / "model")
    session, asked = Session(registry), request(place, 0, model=str(tmp_path / "model"), steps=3)
    for search in ("sweep strengths=0.01 skips=0.3", "per-step strength=0.01 through=network"):
        prepared = prepare(asked.model_copy(update={"search": search}), registry)
        (record,) = session.run(prepared, tmp_path / "runs")
        assert record["failure"] is None and record["family"] == family and record["gradient_evaluations"] > 0
