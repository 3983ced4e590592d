"""Directions between two clouds whose difference is known."""

import pytest
import torch
from torch.nn.functional import normalize

from counterlens.core.conditioning.direction_quality import mean_step
from counterlens.core.conditioning.directions import ClassPair
from counterlens.core.errors import UsageError
from counterlens.core.plugin.registry import load_registry

REGISTRY = load_registry(third_party=False)
LINEAR = ("mean-difference", "lda", "logistic", "pca-cleaned k=1")
LINEAR_FREE = ("matched k=3",)
LOCAL = ("neighbours k=5", "svd rank=3")


def clouds(n=200, d=12, seed=0):
    """Two classes that differ along axis 1, and vary most along axis 2."""
    g = torch.Generator().manual_seed(seed)
    spread = torch.full((d,), 0.05)
    spread[2] = 0.5
    centre = torch.zeros(d)
    centre[0] = 1.0
    parts = []
    for sign in (-1, 1):
        mean = centre.clone()
        mean[1] = 0.2 * sign
        parts.append(normalize(mean + spread * torch.randn(n, d, generator=g), dim=1))
    return ClassPair(*parts)


@pytest.mark.parametrize("name", LINEAR + LINEAR_FREE + LOCAL)
def test_a_step_goes_toward_the_target(name):
    pair, piece = clouds(), REGISTRY.make("direction", name)
    held = clouds(seed=1)
    moved = held.source + piece.fit(pair)(held.source)
    axis = pair.delta / pair.delta.norm()
    assert ((moved @ axis) > (held.source @ axis)).float().mean() > 0.95
    # with the sign of the pair: back again
    back = ClassPair(pair.target, pair.source)
    assert (piece.fit(back)(held.target) @ axis).mean() < 0


@pytest.mark.parametrize("name", LINEAR)
def test_a_step_along_a_weight_is_as_long_as_the_means_lie_apart(name):
    pair = clouds()
    step = mean_step(REGISTRY.make("direction", name), pair)
    assert step @ step == pytest.approx(float(step @ pair.delta), rel=1e-3)


def test_directions_that_know_the_spread_find_the_axis_where_the_means_are_off():
    pair = clouds()
    nuisance, axis = torch.zeros(2, 12)
    axis[1], nuisance[2] = 1.0, 0.3
    pair = ClassPair(pair.source, pair.target + nuisance)
    plain, lda, cleaned = (
        torch.cosine_similarity(mean_step(REGISTRY.make("direction", name), pair), axis, 0)
        for name in ("mean-difference", "lda", "pca-cleaned k=1")
    )
    assert plain < 0.9 < min(lda, cleaned)


def test_neighbours_arrive_at_their_mean():
    pair = clouds(n=5)
    move = REGISTRY.make("direction", "neighbours k=50").fit(pair)
    ends = pair.source + move(pair.source)
    torch.testing.assert_close(ends, normalize(pair.target.mean(0), dim=0).expand_as(ends))


def test_a_projection_leaves_what_lies_in_the_span():
    pair = clouds(n=3)
    move = REGISTRY.make("direction", "svd rank=3").fit(pair)
    torch.testing.assert_close(move(pair.target), torch.zeros(3, 12), atol=1e-5, rtol=0)


def test_words_need_a_text_encoder():
    with pytest.raises(UsageError, match="text encoder"):
        REGISTRY.make("direction", "text").fit(clouds())


def test_nested_pieces_are_written_in_quotes():
    editor = REGISTRY.make("editor", "arithmetic direction='neighbours k=7' scale=2")
    assert editor.direction.name == "neighbours" and editor.direction.k == 7 and editor.scale == 2
    assert REGISTRY.make("editor", "arithmetic").direction.name == "mean-difference"
    with pytest.raises(UsageError, match="unknown direction 'lds'"):
        REGISTRY.make("editor", "arithmetic direction=lds")
