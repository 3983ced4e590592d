"""Conditions that go toward a prompt or an example; differential as a method."""

from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch
from PIL import Image

from counterlens.core.engine.prepare import prepare
from counterlens.core.engine.request import Request
from counterlens.core.engine.session import Session, explain
from counterlens.core.errors import PlanError, UsageError
from counterlens.core.models.pool import Pool
from counterlens.core.plugin.registry import load_registry
from counterlens.core.search.strength_search import walk
from counterlens.core.testing.tiny import tiny

REGISTRY, POOL = load_registry(third_party=False), Pool()


@pytest.fixture
def problem_of():
    with ExitStack() as stack:

        def make(*numbers, **options):
            request = Request(images=tuple(f"shapes:{i}" for i in numbers or (0,)), method="reconstruct", **options)
            prepared = prepare(request, REGISTRY)
            desk, ready = Session(REGISTRY, POOL).desk(stack, prepared)
            return desk.problem(ready)

        yield make


def test_the_prompt_has_the_target_s_name(problem_of, tmp_path):
    problem = problem_of(0, 2, model=str(tiny("stable-diffusion", tmp_path / "sd")), combiner="cfg scale=2")
    scene, pipeline = problem.scene, problem.scene.resources.pipeline
    prompts = [prompt.replace("bouba", "kiki") for prompt in scene.resources.options["prompts"][:1]]
    prompts += [scene.resources.options["prompts"][1].replace("kiki", "bouba")]
    wanted, _ = pipeline.condition(scene.image, prompts, ("text",))
    moved = REGISTRY.make("editor", "toward").bind(scene).on_condition(scene.cond, None)
    torch.testing.assert_close(moved["text"], wanted["text"])
    assert moved["null"] is scene.cond["null"]
    half = REGISTRY.make("editor", "toward share=0.5").bind(scene).on_condition(scene.cond, None)
    torch.testing.assert_close(half["text"], (scene.cond["text"] + wanted["text"]) / 2)
    still = REGISTRY.make("editor", "toward").bind(scene.at(torch.zeros(2))).on_condition(scene.cond, None)
    assert torch.equal(still["text"], scene.cond["text"]), "strength 0 is the identity"
    alone = REGISTRY.make("editor", "toward").bind(scene.take([1])).on_condition(scene.take([1]).cond, None)
    torch.testing.assert_close(alone["text"], moved["text"][1:])


def test_sdxl_s_pooled_text_goes_along(problem_of, tmp_path):
    problem = problem_of(0, 2, model=str(tiny("sdxl", tmp_path / "sdxl")), combiner="cfg scale=2", steps=2)
    scene, pipeline = problem.scene, problem.scene.resources.pipeline
    asked: list[torch.Tensor] = []
    predict = pipeline.predict
    pipeline.predict = lambda x, t, cond, extra: asked.append(extra["text_embeds"]) or predict(x, t, cond, extra)
    try:
        swapped = problem.with_(editors=(REGISTRY.make("editor", "toward prompt='a {target}' share=0.5"),))
        walk(swapped.with_(scene=replace(scene, net=pipeline.network())), swapped.invert())
    finally:
        del pipeline.predict
    names = [scene.resources.classifier.labels[int(k)] for k in scene.target]
    _, there = pipeline.condition(scene.image, [f"a {name}" for name in names], ("text",))
    own = scene.extra["text"]["text_embeds"]
    null, text = asked[-1].chunk(2)
    torch.testing.assert_close(text, (own + there["text"]["text_embeds"]) / 2)
    assert torch.equal(null, scene.extra["null"]["text_embeds"])


def test_an_example_s_embedding(problem_of, tmp_path):
    problem = problem_of(0, model="domain:shapes/kandinsky22")
    other = problem_of(2, model="domain:shapes/kandinsky22").scene
    Image.fromarray(other.items[0].pixels).save(tmp_path / "kiki.png")
    moved = REGISTRY.make("editor", f"toward image={tmp_path}/{{target}}.png").bind(problem.scene)
    torch.testing.assert_close(moved.on_condition(problem.scene.cond, None)["image"], other.cond["image"])


def test_what_is_wrong_is_found_before_anything_is_loaded(tmp_path):
    def ask(text, **options):
        return prepare(Request(images=("shapes:0",), method="reconstruct", editors=(text,), **options), REGISTRY)

    with pytest.raises(UsageError, match="no such file"):
        ask(f"toward image={tmp_path}/none.png")
    with pytest.raises(UsageError, match="not both"):
        ask("toward image=a.png prompt=b")
    with pytest.raises(PlanError, match="needs 'text'"):
        ask("toward", model="domain:shapes/ddpm")


def test_differential_flips_on_shapes_by_classifier_guidance(tmp_path):
    request = Request(images=("shapes:0", "shapes:2", "shapes:5"), method="differential", steps=15)
    records = list(explain(request, REGISTRY, out=tmp_path, pool=POOL))
    assert all(record["flipped"] and record["kept_max"] == 0 for record in records)
    assert all(record["l1"] < 0.1 for record in records)


def test_differential_takes_the_user_s_map(tmp_path):
    Image.new("L", (32, 32), 255).save(tmp_path / "all.png")
    request = Request(images=("shapes:0",), method="differential", map=str(tmp_path / "all.png"), steps=10)
    (record,) = explain(request, REGISTRY, out=tmp_path / "runs", pool=POOL)
    assert record["kept_max"] is None and any("polarity" in note for note in record["notes"])
    both = request.model_copy(update={"editors": ("change-map source=attribution",)})
    with pytest.raises(UsageError, match="leaves --map out"):
        list(explain(both, REGISTRY, out=tmp_path / "runs", pool=POOL))
