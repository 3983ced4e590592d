"""The prompt swap: source prompt for the inversion, target prompt for the walk, on an embedded pipeline."""

from contextlib import ExitStack

import pytest
import torch

from counterlens.core.engine.prepare import prepare
from counterlens.core.engine.request import Request
from counterlens.core.engine.scene_builder import scene_of
from counterlens.core.engine.session import Session
from counterlens.core.plugin.registry import load_registry
from counterlens.core.search.strength_search import walk

torch.set_num_threads(1)
REGISTRY = load_registry(third_party=False)


@pytest.fixture(scope="module")
def problem():
    with ExitStack() as stack:
        request = Request(images=("digits:0", "digits:1"), method="textual-inversion", steps=8, device="cpu")
        prepared = prepare(request, REGISTRY)
        assert prepared.family == "stable-diffusion"
        desk, ready = Session(REGISTRY).desk(stack, prepared)
        made = desk._problem(scene_of(ready, prepared, desk.pipeline, desk.classifier), (0, 2), 8)
        for editor in made.editors:
            made = editor.on_problem(made)
        yield made


def test_inverted_under_the_source_walked_under_the_target(problem):
    pipeline, scene = problem.scene.resources.pipeline, problem.scene
    labels = scene.resources.classifier.labels
    sources, targets = ([f"a {labels[int(k)]}" for k in which] for which in (scene.source, scene.target))
    for prompts, cond in (
        (sources, scene.cond["text"]),
        (targets, problem.editors[0].bind(scene).on_condition(scene.cond, None)["text"]),
    ):
        theirs, _ = pipeline.condition(scene.image, prompts, ("text",))
        torch.testing.assert_close(cond, theirs["text"], atol=1e-4, rtol=1e-4)


def test_strength_zero_is_the_identity_and_one_moves(problem):
    ends = []
    for s in (0.0, 1.0):
        at = problem.with_(scene=problem.scene.at(torch.full((2,), s)))
        with torch.no_grad():
            ends.append(walk(at, at.invert(0.25)))
    assert (ends[0] - problem.scene.x0).abs().max() <= 1e-4 < (ends[1] - problem.scene.x0).abs().max()
