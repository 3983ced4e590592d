"""Every method that a folder of pipelines serves, side by side, and why the others cannot."""

import json

import numpy as np
import pytest
from PIL import Image

from counterlens.core.engine.request import Request
from counterlens.core.errors import UsageError
from counterlens.core.models.folder import pipelines_in
from counterlens.core.plugin.registry import load_registry
from counterlens.core.testing.tiny import tiny
from counterlens.core.workflows.all_methods import folder_of, prepare_all, run_all


@pytest.fixture
def registry():
    loaded = load_registry(third_party=False)
    kept = ("guided", "arithmetic", "reconstruct", "textual-inversion")
    loaded.entries["method"] = {name: loaded.entries["method"][name] for name in kept}
    return loaded


@pytest.fixture
def request_of(tmp_path, small_classifier):
    rng = np.random.default_rng(0)
    for label in ("dark", "light"):
        for k in range(4):
            path = tmp_path / "data" / label / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(path)
    tiny("ddpm", tmp_path / "pipelines" / "ddpm")
    tiny("kandinsky22", tmp_path / "pipelines" / "kandinsky22")

    def make(**how):
        given = {"images": (f"folder:{tmp_path}/data?first=1",), "classifier": small_classifier, "steps": 4}
        return Request(**{**given, "model": str(tmp_path / "pipelines"), "device": "cpu", "force": True, **how})

    return make


@pytest.fixture
def small_classifier(tmp_path):
    import torch
    from safetensors.torch import save_file

    from counterlens.plugins.classifiers.small_cnn import build

    torch.manual_seed(0)
    save_file(
        build("4", 2).state_dict(),
        str(tmp_path / "net.safetensors"),
        {"arch": "small-cnn:4", "labels": json.dumps(["dark", "light"]), "size": "16"},
    )
    return f"file:{tmp_path}/net.safetensors"


def test_a_folder_of_pipelines(request_of, tmp_path, registry):
    request_of()
    found = pipelines_in(str(tmp_path / "pipelines"), registry.recognise)
    assert {family: folder for family, (folder, _) in found.items()} == {
        name: tmp_path / "pipelines" / name for name in ("ddpm", "kandinsky22")
    }
    assert not pipelines_in(str(tmp_path / "pipelines" / "ddpm"), registry.recognise) and not pipelines_in(
        "domain:x", registry.recognise
    )


def test_every_method_takes_the_pipeline_that_it_prefers(request_of, registry):
    every = prepare_all(request_of(), registry)
    assert {name: one.family for name, one in every.able.items()} == {
        "arithmetic": "kandinsky22", "guided": "ddpm", "reconstruct": "ddpm",
    }  # fmt: skip
    assert list(every.able)[-1] == "reconstruct"
    assert "'words'" in every.unable["textual-inversion"]
    assert every.able["arithmetic"].examples.uri.endswith("split=train"), "learns from what is not explained"


def test_records_of_all_in_one_folder(request_of, registry, tmp_path):
    every = prepare_all(request_of(), registry)
    records = list(run_all(every, registry, tmp_path / "runs"))
    folder = folder_of(every, tmp_path / "runs")
    assert [r["method"] for r in records] == ["arithmetic"] * 2 + ["guided"] * 2 + ["reconstruct"] * 2
    written = json.loads((folder / "methods.json").read_text())
    assert [row["method"] for row in written["methods"]] == ["arithmetic", "guided", "reconstruct"]
    assert all(row["images"] == 2 for row in written["methods"]) and "textual-inversion" in written["cannot"]
    assert Image.open(folder / "methods.png").size == (128 * 3, 128 * 4)
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"arithmetic", "guided", "reconstruct"}
    again = list(run_all(prepare_all(request_of(), registry), registry, tmp_path / "runs", "never"))
    assert [r["digest"] for r in again] == [r["digest"] for r in records]


def test_a_method_that_breaks_does_not_stop_the_others(request_of, registry, tmp_path):
    """Its reason goes among those that cannot run; methods that run only when named are not tried."""
    mask = tmp_path / "map.png"
    Image.new("L", (16, 16), 255).save(mask)
    methods = registry.entries["method"]
    methods["arithmetic"] = methods["arithmetic"].model_copy(update={"aside": True})
    breaks = {"name": "breaks", "editors": (f"change-map source='file path={mask}'",)}
    methods["breaks"] = methods["guided"].model_copy(update=breaks)
    every = prepare_all(request_of(), registry)
    mask.unlink()
    records = list(run_all(every, registry, tmp_path / "runs"))
    assert {r["method"] for r in records} == {"guided", "reconstruct"}
    assert "map.png" in every.unable["breaks"] and every.unable["arithmetic"] == "runs only when it is named"


def test_unreadable_images_are_named_and_left_out(request_of, registry, tmp_path):
    (tmp_path / "data" / "dark" / "0.png").write_bytes(b"\x89PNG broken")
    notes = []
    every = prepare_all(request_of(images=(f"folder:{tmp_path}/data",)), registry, notes.append)
    assert len(every.able["guided"].asked) == 7 and "0.png" in notes[0] and "1 of 8" in notes[1]


def test_no_method_at_all(request_of, registry):
    del registry.entries["method"]["guided"], registry.entries["method"]["reconstruct"]
    with pytest.raises(UsageError, match="no method can work"):
        prepare_all(request_of(model=str(request_of().model) + "/ddpm"), registry)
