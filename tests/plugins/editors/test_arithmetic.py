"""Embedding arithmetic on a tiny random Kandinsky-type pipeline, through the real engine."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from counterlens.core.classifiers.classifier import Classifier
from counterlens.core.classifiers.preprocessing import Preprocessing
from counterlens.core.conditioning import embeddings
from counterlens.core.conditioning.directions import ClassPair
from counterlens.core.engine.prepare import prepare
from counterlens.core.engine.request import Request
from counterlens.core.errors import PlanError, UsageError
from counterlens.core.models.pool import Key
from counterlens.core.plugin.registry import load_registry
from counterlens.core.problem.items import Item
from counterlens.core.problem.problem import Problem
from counterlens.core.problem.scene import Resources, Scene
from counterlens.core.search.strength_search import LadderStep, search_ladder, walk, walk_mixed
from counterlens.core.testing.tiny import tiny
from counterlens.core.utils.memo import Memo

torch.set_num_threads(1)
REGISTRY = load_registry(third_party=False)
LABELS = ("dark", "light")


def images(root, count=6):
    """Two classes of 16x16 pictures: dark and light ones."""
    rng = np.random.default_rng(0)
    for name, low in zip(LABELS, (0, 128), strict=True):
        (root / name).mkdir(parents=True)
        for k in range(count):
            Image.fromarray(rng.integers(low, low + 128, (16, 16, 3), np.uint8)).save(root / name / f"{k}.png")
    return root


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("arithmetic")
    folder = tiny("kandinsky22", root / "model")
    data = REGISTRY.open_dataset(str(images(root / "data")))
    pipeline = REGISTRY.family("kandinsky22").load(Key(str(folder)))
    return SimpleNamespace(root=root, folder=folder, data=data, pipeline=pipeline)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTERLENS_CACHE", str(tmp_path / "cache"))


class Bright(torch.nn.Module):
    """Logits by brightness."""

    def forward(self, x):
        b = 8 * (x.mean((1, 2, 3)) - 0.5)
        return torch.stack([-b, b], 1)


def problem_of(
    world, batch=3, steps=10, guidance=2.0, inverter="edit-friendly", editor="arithmetic", rows=None, size=16
):
    pipeline = world.pipeline
    image = torch.stack(
        [torch.from_numpy(e.read().copy()).permute(2, 0, 1).float() / 127.5 - 1 for e in world.data.examples[:batch]]
    )
    combiner = REGISTRY.make("combiner", f"cfg scale={guidance}")
    cond, extra = pipeline.condition(image, [""] * batch, combiner.branches(pipeline.branches))
    classifier = Classifier.of(Bright(), Preprocessing(LABELS), "python:bright")
    scene = Scene(
        items=tuple(Item(f"{k}", np.zeros((16, 16, 3), np.uint8), f"{k}", "light") for k in range(batch)),
        image=image, x0=pipeline.encode(image), cond=cond, extra=extra,
        source=torch.zeros(batch, dtype=torch.long), target=torch.ones(batch, dtype=torch.long),
        seeds=tuple(range(batch)), rows=tuple(range(batch)), grid=pipeline.grid(steps), net=pipeline.network(),
        resources=Resources(pipeline, classifier, {}, world.data), strength=torch.ones(batch),
    )  # fmt: skip
    scene = scene if rows is None else scene.take(rows)
    editors = (REGISTRY.make("editor", editor),) if editor else ()
    return Problem(scene, REGISTRY.make("inverter", inverter), combiner, editors, batch=size)


def ended(problem, strength, skip=0.5):
    scene = problem.scene.at(torch.full((len(problem.scene),), strength))
    with torch.no_grad():
        return walk(problem.with_(scene=scene), problem.invert(skip))


@pytest.mark.parametrize(
    ("inverter", "editor"),
    [
        ("edit-friendly", "arithmetic"),
        ("edit-friendly", "arithmetic restore_norm=false"),
        ("edit-friendly", "arithmetic direction=lda"),
        ("edit-friendly under=source", "arithmetic against=source"),
        ("edit-friendly", "arithmetic-prediction"),
    ],
)
def test_strength_zero_is_the_reconstruction_and_one_is_not(world, inverter, editor):
    p = problem_of(world, inverter=inverter, editor=editor)
    assert (ended(p, 0.0) - p.scene.x0).abs().max() <= 1e-4
    assert (ended(p, 1.0) - p.scene.x0).abs().max() > 1e-3


def test_the_null_inversion_of_the_reference_is_not_an_identity_but_half_the_price(world):
    own, null = (problem_of(world, inverter=f"edit-friendly under={how}") for how in ("editing", "null"))
    assert (ended(null, 0.0) - null.scene.x0).abs().max() > 1e-3
    assert null.scene.net.meter.forward[0] == 5 + 10  # one question a step, then two
    ended(own, 0.0)
    assert own.scene.net.meter.forward[0] == 10 + 10


def test_the_formula_by_hand(world):
    p = problem_of(world)
    made = embeddings.embed(world.pipeline, world.data)
    delta = made.of("light").mean(0) - made.of("dark").mean(0)
    e = p.scene.cond["image"]
    length = e.norm(dim=1, keepdim=True)
    for s, restored in ((0.7, True), (2.0, False)):
        editor = REGISTRY.make("editor", f"arithmetic scale={s} restore_norm={restored}")
        cond = editor.bind(p.scene).on_condition(p.scene.cond, None)
        moved = e / length + s * delta
        expected = length * moved / moved.norm(dim=1, keepdim=True) if restored else length * moved
        torch.testing.assert_close(cond["image"], expected, atol=1e-4, rtol=1e-4)
        assert cond["null"] is p.scene.cond["null"]


def test_both_directions_of_a_pair(world):
    p = problem_of(world)
    other = replace(p.scene, source=p.scene.target, target=p.scene.source)
    editor = REGISTRY.make("editor", "arithmetic restore_norm=false")
    e = p.scene.cond["image"]
    there, back = (editor.bind(s).on_condition(s.cond, None)["image"] - e for s in (p.scene, other))
    torch.testing.assert_close(there, -back, atol=1e-5, rtol=1e-4)


def test_batched_inversion_is_the_sequential_one(world):
    one, many = problem_of(world, size=1).invert(0.2), problem_of(world, size=64).invert(0.2)
    for a, b in zip(one.residual, many.residual, strict=True):
        assert (a - b).abs().max() <= 1e-4


def test_a_step_is_inverted_once_for_all_starts(world):
    p = problem_of(world, batch=2, steps=10)
    p.invert(0.7)
    assert p.scene.net.meter.forward == {0: 6, 1: 6}
    longer = p.invert(0.4)
    assert p.scene.net.meter.forward == {0: 12, 1: 12}
    fresh = problem_of(world, batch=2, steps=10).invert(0.4)
    assert (longer.x - fresh.x).abs().max() == 0
    assert all((a - b).abs().max() <= 1e-4 for a, b in zip(longer.residual, fresh.residual, strict=True))


@pytest.mark.parametrize("editor", ["arithmetic", "arithmetic-prediction"])
def test_rows_at_different_starts_and_strengths_share_their_calls(world, editor):
    p = problem_of(world, batch=3, steps=10, editor=editor)
    skips, strength = (0.8, 0.3, 0.5), torch.tensor([1.0, 2.0, 0.5])
    starts = [p.take([k]).invert(skip) for k, skip in enumerate(skips)]
    before = p.scene.net.meter.calls
    mixed = walk_mixed(p.with_(scene=p.scene.at(strength)), starts)
    a_step = 1 if editor == "arithmetic" else 3
    assert p.scene.net.meter.calls - before == 7 * a_step
    for k, skip in enumerate(skips):
        alone = problem_of(world, batch=3, steps=10, editor=editor).take([k])
        assert (ended(alone, float(strength[k]), skip)[0] - mixed[k]).abs().max() <= 1e-4


def test_a_ladder_of_starts_gives_the_same_in_any_company(world):
    ladder = [LadderStep(skip, s) for skip in (0.8, 0.5) for s in (0.5, 2.0)]
    alone = search_ladder(problem_of(world).with_(tau=0.52), ladder)
    together = search_ladder(problem_of(world).with_(tau=0.52), ladder, together=4)
    assert alone.strength == together.strength and (alone.x0 - together.x0).abs().max() <= 1e-4


def test_evaluations_of_a_first_flip_at_seven_tenths(world):
    """Counted: the reference spends 100 + 2·(10 + 20 + 30) = 220 with 100 steps."""
    for steps, most, skips in ((100, 150, (0.9, 0.8, 0.7)), (25, 60, (0.9, 0.8, 0.7))):
        p = problem_of(world, batch=1, steps=steps, inverter="edit-friendly under=source",
                       editor="arithmetic against=source").with_(tau=2.0)  # fmt: skip
        search_ladder(p, [LadderStep(skip, 2.0) for skip in skips])
        assert 0 < p.scene.net.meter.forward[0] <= most


def test_embeddings_are_kept_and_refused_when_they_are_of_something_else(world, tmp_path):
    made = embeddings.embed(world.pipeline, world.data, batch=5)
    assert made.counts() == {"dark": 6, "light": 6} and made.vectors.shape == (12, 8)
    made.save(tmp_path / "e.safetensors")
    back = embeddings.load_embeddings(tmp_path / "e.safetensors")
    assert back.ids == made.ids and torch.equal(back.vectors, made.vectors)
    back.check(world.pipeline, world.data)
    other = REGISTRY.family("kandinsky22").load(Key(str(tiny("kandinsky22", tmp_path / "other", seed=1))))
    with pytest.raises(UsageError, match="another image encoder"):
        back.check(other)
    less = REGISTRY.open_dataset(str(images(tmp_path / "less", 3)))
    with pytest.raises(UsageError, match="other images"):
        back.check(world.pipeline, less)
    with pytest.raises(UsageError, match="has no embeddings"):
        embeddings.load_embeddings(world.folder / "unet" / "diffusion_pytorch_model.safetensors")


def test_embeddings_of_the_condition_are_those_of_the_data(world):
    p = problem_of(world)
    made = embeddings.embed(world.pipeline, world.data)
    assert (made.vectors[:3] - p.scene.cond["image"]).abs().max() <= 1e-4


def test_a_second_call_embeds_nothing(world, monkeypatch):
    first = embeddings.cached(world.pipeline, world.data, LABELS, 4)
    monkeypatch.setattr(type(world.pipeline), "embed", lambda *_: pytest.fail("embedded again"))
    again = embeddings.cached(world.pipeline, world.data, LABELS, 4)
    assert torch.equal(first.vectors, again.vectors) and first.labels == again.labels


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: [p.unlink() for p in sorted((root / "dark").iterdir())[1:]], "'dark' has one image"),
        (lambda root: [p.write_bytes(b"x") for p in (root / "dark").iterdir()], "'dark' has no image that can be read"),
        (
            lambda root: [p.write_bytes((root / "light" / p.name).read_bytes()) for p in (root / "dark").iterdir()],
            "every image of 'dark' is also one of 'light'",
        ),
    ],
)
def test_classes_that_cannot_be_told(world, tmp_path, change, words):
    change(images(tmp_path / "d", 3))
    with pytest.raises(UsageError, match=words):
        embeddings.embed(world.pipeline, REGISTRY.open_dataset(str(tmp_path / "d")))


def test_a_class_that_the_data_do_not_have(world, tmp_path):
    root = images(tmp_path / "d", 3)
    (root / "dark").rename(root / "dim")
    p = problem_of(world)
    resources = replace(p.scene.resources, examples=REGISTRY.open_dataset(str(root)), memo=Memo())
    with pytest.raises(UsageError, match="has no class 'dark'"):
        REGISTRY.make("editor", "arithmetic").bind(replace(p.scene, resources=resources))


def test_words_as_a_direction(tmp_path):
    """The tiny prior has no text encoder; the embedded one has."""
    domain = REGISTRY.domain("digits")
    pipeline = REGISTRY.family("kandinsky22").load(Key(str(domain.models()["kandinsky22"])))
    words = pipeline.embed_texts(["a four", "a nine", "a four"])
    assert words.shape[0] == 3 and torch.allclose(words[0], words[2], atol=1e-5)
    pair = ClassPair(torch.eye(words.shape[1])[:3], torch.eye(words.shape[1])[3:6], ("four", "nine"), pipeline)
    step = REGISTRY.make("direction", "text").fit(pair)(pair.source)
    assert torch.isfinite(step).all() and step.norm() > 0


def test_the_plan_says_what_is_missing(world):
    image = str(next((world.root / "data" / "dark").iterdir()))
    request = Request(images=(image,), method="arithmetic", model=str(world.folder), classifier="python:x:y")
    with pytest.raises(PlanError, match=r"'examples' \(labelled images to learn from \(--data URI\)\)"):
        prepare(request, REGISTRY)
    assert prepare(request.model_copy(update={"data": str(world.root / "data")}), REGISTRY).examples is not None
    text = tiny("stable-diffusion", world.root / "sd")
    with pytest.raises(PlanError, match="families that do: kandinsky22"):
        prepare(request.model_copy(update={"model": str(text), "data": str(world.root / "data")}), REGISTRY)
