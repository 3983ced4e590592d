"""Prompt-to-prompt and blend on tiny random pipelines of two families, and on the embedded one."""

from dataclasses import replace

import pytest
import torch

from counterlens.core.engine.request import Request
from counterlens.core.engine.session import explain
from counterlens.core.errors import PlanError, UsageError
from counterlens.core.plugin.registry import load_registry
from counterlens.core.search.strength_search import walk
from counterlens.core.testing.tiny import tiny

torch.set_num_threads(1)
REGISTRY = load_registry(third_party=False)
EMBEDDED = {"model": "domain:shapes/stable-diffusion", "method": "reconstruct", "combiner": "cfg scale=2", "steps": 6}


@pytest.fixture(scope="module", params=["stable-diffusion", "sdxl"])
def model(request, tmp_path_factory):
    return str(tiny(request.param, tmp_path_factory.mktemp("tiny") / request.param))


@pytest.fixture
def of_tiny(problem_of, model):
    def make(*numbers, editors=(), **options):
        made = problem_of(
            *numbers, model=model, method="reconstruct", combiner="cfg scale=2", steps=5, editors=editors, **options
        )
        for editor in made.editors:
            made = editor.on_problem(made)
        return made

    return make


def end(problem, strength=1.0, skip=0.2):
    scene = problem.scene.at(torch.full((len(problem.scene),), strength))
    with torch.no_grad():
        return walk(problem.with_(scene=scene), problem.invert(skip))


def test_strength_zero_and_an_unchanged_prompt_are_the_identity(of_tiny):
    plain = of_tiny(0, 1)
    swapped = of_tiny(0, 1, editors=("prompt-to-prompt own=0.6",))
    assert (end(swapped, 0.0) - plain.scene.x0).abs().max() <= 1e-4 < (end(swapped) - plain.scene.x0).abs().max()
    same = of_tiny(0, 1, editors=("prompt-to-prompt prompt='{prompt}' cross=1 own=1",))
    assert (end(same) - plain.scene.x0).abs().max() <= 1e-4, "the source's own maps change nothing"


def test_rows_are_independent(of_tiny):
    both = of_tiny(0, 2, editors=("prompt-to-prompt",))
    together = end(both)
    for row in (0, 1):
        alone = of_tiny((0, 2)[row], editors=("prompt-to-prompt",))
        torch.testing.assert_close(end(alone), together[row : row + 1], atol=1e-4, rtol=1e-3)


def test_the_source_s_attention_holds_the_layout(problem_of):
    """The more of the source's attention is kept, the less changes, on the embedded pipeline."""
    ends = {}
    for share in (0, 0.5, 1):
        editor = f"prompt-to-prompt cross={share} own={share}"
        made = problem_of(0, 1, editors=(editor,), **EMBEDDED)
        for one in made.editors:
            made = one.on_problem(made)
        ends[share] = (end(made) - made.scene.x0).abs().mean()
    assert ends[0] > ends[0.5] > ends[1] > 0


def test_only_the_layers_and_steps_that_take_maps_leave_the_fused_kernel(of_tiny):
    problem = of_tiny(0, editors=("prompt-to-prompt cross=0.5 own=0.25 side=4",))
    net, seen = problem.scene.net, []
    unet = problem.scene.resources.pipeline.unet
    handle = unet.register_forward_pre_hook(
        lambda *_: seen.append({n for n, m in net.attention.items() if type(m.processor).__name__ == "AttnProcessor"})
    )
    try:
        end(problem, skip=0.0)
    finally:
        handle.remove()
    words = {name for name in net.attention if name.endswith("attn2")}
    places = {name for name in net.attention if name.endswith("attn1")}
    walked = seen[-5:]
    assert walked[3:] == [set(), set()] and walked[2] == words
    assert words < walked[0] <= words | places
    (kept,) = problem.traced.values()
    assert {i for _, i in kept.maps} == {0, 1, 2}, "steps with progress below 0.5 of 5"
    assert {site for site, i in kept.maps if i == 2} == words


def test_maps_are_recorded_once_for_all_strengths(of_tiny):
    problem = of_tiny(0, editors=("prompt-to-prompt",))
    end(problem, 0.5)
    before = problem.scene.net.meter.forward[0]
    end(problem, 1.0)
    assert problem.scene.net.meter.forward[0] - before == 2 * 4, "the walk alone: two branches, four steps"


def test_gradients_through_the_injection_are_the_same_with_checkpoints(of_tiny):
    problem = of_tiny(0, editors=("prompt-to-prompt own=0.6", "blend otherwise=strips"))
    inversion, grads = problem.invert(0.2), []
    for checkpointed in (False, True):
        net = replace(problem.scene.net, checkpointed=checkpointed)
        one = problem.with_(scene=replace(problem.scene, net=net))
        x = inversion.x.clone().requires_grad_()
        one.walk(replace(inversion, x=x)).square().sum().backward()
        grads.append(x.grad)
    assert grads[0].abs().max() > 0
    torch.testing.assert_close(*grads, atol=1e-5, rtol=1e-5)


def test_sdxl_s_pooled_text_moves_too(problem_of, tmp_path):
    problem = problem_of(0, model=str(tiny("sdxl", tmp_path / "sdxl")), method="reconstruct", combiner="cfg scale=2")
    editor = REGISTRY.make("editor", "prompt-to-prompt")
    problem = editor.on_problem(problem)
    bound, scene = editor.bind(problem.scene), problem.scene
    prompt = scene.resources.options["prompts"][0].replace("bouba", "kiki")
    wanted, more = scene.resources.pipeline.condition(scene.image, [prompt], ("text",))
    torch.testing.assert_close(bound.on_condition(scene.cond, None)["text"], wanted["text"])
    pooled = bound.on_extra(scene.extra, None)["text"]["text_embeds"]
    torch.testing.assert_close(pooled, more["text"]["text_embeds"])


def test_a_caption_without_its_class_is_mended_and_said(problem_of):
    """C8: a name that the prompt does not have gave an empty token mask, and a mask of NaN."""
    problem = problem_of(0, editors=("prompt-to-prompt",), prompt="a red shape on a blue background", **EMBEDDED)
    made = problem.editors[0].on_problem(problem)
    assert made.scene.resources.options["prompts"] == ("a bouba, a red shape on a blue background",)
    assert "did not name 'bouba'" in made.scene.items[0].notes[0]
    assert torch.isfinite(end(made)).all()
    refusing = problem_of(0, editors=("prompt-to-prompt missing=refuse",), prompt="a red shape", **EMBEDDED)
    with pytest.raises(UsageError, match="does not name its class"):
        refusing.editors[0].on_problem(refusing)


def test_a_prompt_that_is_too_long_is_refused(problem_of):
    """C9: it ran past the encoding."""
    problem = problem_of(0, editors=("prompt-to-prompt",), prompt="a bouba " * 12, **EMBEDDED)
    with pytest.raises(UsageError, match="the text encoder reads 20: shorten it"):
        problem.editors[0].on_problem(problem)


@pytest.mark.parametrize("inverter", ["edit-friendly", "ddim"])
def test_blend_copies_the_source_where_it_stays(of_tiny, inverter):
    toward = ("toward prompt='a {target}'",)
    free = end(of_tiny(0, editors=toward, inverter=inverter))
    problem = of_tiny(0, editors=(*toward, "blend until=1 otherwise=strips"), inverter=inverter)
    source, white = problem.scene.x0, torch.ones_like(problem.scene.image[:, :1])
    left = white.clone()
    left[..., : white.shape[-1] // 2] = 0

    def blended(keep, change):
        editors = (problem.editors[0], problem.editors[1].model_copy(update={"keep": keep}))
        return end(problem.with_(editors=editors, scene=replace(problem.scene, change_map=change)))

    torch.testing.assert_close(blended("background", white), free, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(blended("foreground", 1 - white), free, atol=1e-4, rtol=1e-3)
    held = blended("foreground", white)
    assert (held - source).abs().mean() < (free - source).abs().mean(), "only the last step's own edit is left"
    half = (blended("background", left) - source).abs().mean((0, 1, 2))
    assert half[: len(half) // 2].mean() < half[len(half) // 2 :].mean()


def test_other_editors_note_that_a_prompt_is_cut(tmp_path):
    """C9: nothing said that the end of a long prompt was not read."""
    request = Request(images=("shapes:1",), prompt="a bouba " * 12, editors=("toward",), **{**EMBEDDED, "steps": 2})
    (record,) = explain(request, REGISTRY, out=tmp_path)
    assert any("has 26 tokens and the text encoder reads 20" in note for note in record["notes"])


def test_blend_keeps_only_its_share_of_the_steps(of_tiny):
    problem = of_tiny(0, editors=("blend until=0.5 otherwise=strips",), inverter="noise")
    bound = problem.editors[0].bind(problem.scene).on_start(problem, problem.invert(0.0))
    assert max(bound.traces[0].states) == 2


def test_what_does_not_go_together_is_said_before_anything_is_loaded():
    def ask(**options):
        list(explain(Request(images=("shapes:0",), method="reconstruct", **options), REGISTRY))

    with pytest.raises(PlanError, match="'prompt-to-prompt' needs 'cross-attention'"):
        ask(editors=("prompt-to-prompt",), model="domain:shapes/ddpm")
    with pytest.raises(PlanError, match="'blend' needs 'map'"):
        ask(editors=("blend",), model="domain:shapes/stable-diffusion")


def test_as_a_method_s_editor_on_the_embedded_pipeline(tmp_path):
    request = Request(images=("shapes:1",), editors=("prompt-to-prompt", "blend otherwise=attribution"), **EMBEDDED)
    (record,) = explain(request, REGISTRY, out=tmp_path)
    assert record["failure"] is None and record["p_target_after"] > record["p_target_before"]
