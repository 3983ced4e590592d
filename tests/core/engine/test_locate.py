"""Which pipeline is meant: one answer for methods, finders, trainers and whoever else asks."""

import pytest

from counterlens.core.engine.locate import locate
from counterlens.core.engine.prepare import prepare
from counterlens.core.engine.request import Request
from counterlens.core.errors import PlanError, UsageError
from counterlens.core.models import folder, hub
from counterlens.core.plugin.registry import load_registry
from counterlens.core.problem.method import Method
from counterlens.core.testing.tiny import tiny


@pytest.fixture(scope="module")
def registry():
    return load_registry(third_party=False)


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A folder of two pipelines."""
    place = tmp_path_factory.mktemp("several")
    for family in ("ddpm", "stable-diffusion"):
        tiny(family, place / family)
    return place


def test_the_first_that_gives_what_is_needed(registry, several):
    assert locate(registry, str(several), {}).family == "ddpm"
    found = locate(registry, str(several), {"text": "a test"})
    assert found.family == "stable-diffusion" and "text" in found.words
    assert found.folder == str(several / "stable-diffusion")


def test_preferences_order_those_that_can(registry, several):
    prefers = ("kandinsky22", "stable-diffusion", "ddpm")
    assert locate(registry, str(several), {}, prefers).family == "stable-diffusion"
    assert locate(registry, "domain:shapes", {}, prefers).family == "kandinsky22"
    assert locate(registry, "domain:shapes", {"text": "a test"}, ("ddpm",)).family == "stable-diffusion"


def test_who_lacks_what_is_said(registry, several):
    with pytest.raises(PlanError, match=r"train it needs 'text' \(.*\); ddpm does not; families that do: .*stable"):
        locate(registry, str(several / "ddpm"), {"text": "train it"})
    least = r"a test needs 'image-embedding' .*; stable-diffusion does not"  # of two the one that lacks less
    with pytest.raises(PlanError, match=least):
        locate(registry, str(several), {"image-embedding": "a test", "text": "a test"})


@pytest.mark.parametrize(
    "uri, words",
    [
        ("", "which pipeline"),
        ("domain:", "which pipeline"),
        ("domain:shapes/ddmp", "did you mean 'domain:shapes/ddpm'"),
        ("domain:shape", "did you mean 'shapes'"),
    ],
)
def test_a_uri_that_names_none(registry, uri, words):
    with pytest.raises(UsageError, match=words):
        locate(registry, uri, {})


def test_each_index_is_read_once(registry, several, monkeypatch):
    read = []
    for module in (hub, folder):
        own = module._json

        def noted(path, own=own):
            read.append(path)
            return own(path)

        monkeypatch.setattr(module, "_json", noted)
    request = Request(images=("shapes:0",), model=str(several), device="cpu")
    prepare(request, registry)
    assert sorted(read) == [several / family / "model_index.json" for family in ("ddpm", "stable-diffusion")]


def test_a_method_travels_as_a_value(registry, tmp_path):
    known = dict(registry.entries["method"])
    method = Method(name="mine", summary="a test", guidance=("target",), search="per-step", steps=3)
    prepared = prepare(Request(images=("shapes:0",), device="cpu"), registry, method=method)
    assert prepared.composition.method.name == "mine" and prepared.composition.method.steps == 3
    path = tmp_path / "filed.yaml"
    path.write_text("name: filed\nsummary: a test\nsteps: 4\n")
    filed = prepare(Request(images=("shapes:0",), method=str(path), device="cpu"), registry)
    assert filed.composition.method.name == "filed"
    assert registry.entries["method"] == known
    with pytest.raises(UsageError, match="unknown method 'filed'"):
        registry.method("filed")


def test_a_task_that_explains_nothing_needs_no_classifier(registry, several, tmp_path):
    import numpy as np
    from PIL import Image

    path = tmp_path / "grey.png"
    Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(path)
    request = Request(images=(str(path),), model=str(several), method="dig-in", device="cpu")
    with pytest.raises(UsageError, match="which classifier"):
        prepare(request, registry)
    prepared = prepare(request, registry, needs={"text": "a test"})
    assert prepared.classifier == "" and prepared.family == "stable-diffusion"
    assert not prepared.composition.guidance and prepared.composition.search.name == "once"
    assert prepared.composition.inverter.name == "direct" and not {"labels", "gradient"} & prepared.given
