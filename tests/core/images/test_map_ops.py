"""Arithmetic of change maps."""

import pytest
import torch

from counterlens.core.images import map_ops


@pytest.fixture
def pair():
    g = torch.Generator().manual_seed(0)
    return torch.rand(2, 1, 12, 16, generator=g), torch.rand(2, 1, 12, 16, generator=g)


def test_the_algebra_stays_between_0_and_1_and_is_one(pair):
    a, b = pair
    assert torch.equal(map_ops.union(a, b), b.maximum(a)) and torch.equal(map_ops.intersection(a, b), b.minimum(a))
    assert torch.equal(map_ops.protect(a, torch.ones_like(b)), torch.zeros_like(a))
    assert torch.equal(map_ops.protect(a, torch.zeros_like(b)), a)
    de_morgan = 1 - map_ops.intersection(1 - a, 1 - b)
    torch.testing.assert_close(de_morgan, map_ops.union(a, b))
    for c in (map_ops.refined(a, True, 2.0, 0.3, 2.0, 3.0, 0.7), map_ops.protect(a, b), map_ops.normalised(a * 9 - 3)):
        assert c.min() >= 0 and c.max() <= 1
    assert map_ops.refined(a, cap=0.7).max() <= 0.7


def test_an_area_is_kept_exactly_even_with_ties():
    flat = torch.ones(1, 1, 10, 10)
    for share in (0.01, 0.25, 0.5, 1.0):
        assert map_ops.budget(flat, share).mean() == pytest.approx(share, abs=1e-7)
    ranked = torch.arange(100.0).view(1, 1, 10, 10) / 100
    kept = map_ops.budget(ranked, 0.1)
    assert (kept > 0).sum() == 10 and torch.equal(kept[ranked >= 0.9], ranked[ranked >= 0.9])


def test_growing_and_feathering_go_outward_only():
    c = torch.zeros(1, 1, 21, 21)
    c[0, 0, 10, 10] = 0.6
    grown, soft = map_ops.grown(c, 3), map_ops.feathered(c, 4)
    assert grown[0, 0, 10, 13] == pytest.approx(0.6) and grown[0, 0, 10, 14] == 0
    assert (grown > 0).sum() == sum(y * y + x * x <= 9 for y in range(-3, 4) for x in range(-3, 4))
    line = soft[0, 0, 10, 10:16]
    assert line[0] == c[0, 0, 10, 10] and (line[:-1] > line[1:]).all() and line[5] == 0
    assert torch.equal(map_ops.feathered(torch.zeros_like(c), 4), torch.zeros_like(c))
    assert (map_ops.feathered(grown, 2)[grown > 0] == grown[grown > 0]).all()


@pytest.mark.parametrize("way", ["area", "max", "min", "smooth"])
def test_11_resizing_keeps_constants_bounds_and_thin_strokes(way, pair):
    constant = torch.full((1, 1, 64, 64), 0.3)
    assert torch.equal(map_ops.reduced(constant, (8, 8), way), torch.full((1, 1, 8, 8), 0.3))
    same = torch.rand(1, 1, 8, 8)
    assert map_ops.reduced(same, (8, 8), way) is same
    out = map_ops.reduced(pair[0], (3, 4), way)
    assert pair[0].min() <= out.min() and out.max() <= pair[0].max()
    for column in range(8):
        stroke = torch.zeros(1, 1, 64, 64)
        stroke[..., column] = 1
        kept = map_ops.reduced(stroke, (8, 8), way).max()
        assert kept == {"max": 1, "min": 0}.get(way, kept) and (way == "min" or kept > 0.05)


def test_shrinking_then_growing_drops_specks_and_blur_keeps_the_sum():
    c = torch.zeros(1, 1, 21, 21)
    c[0, 0, 6:13, 6:13], c[0, 0, 18, 18] = 1, 1
    less = map_ops.refined(c, shrink=1)
    assert less.sum() == 25 and (less[0, 0, 7:12, 7:12] == 1).all()
    opened = map_ops.refined(c, shrink=1, grow=1)
    assert opened[0, 0, 18, 18] == 0 and opened.sum() == 45  # the square without its four corners
    blurred = map_ops.refined(less, blur=1)
    torch.testing.assert_close(blurred.sum(), less.sum(), atol=1e-3, rtol=0)
    assert blurred[0, 0, 7, 9] < 1 and blurred[0, 0, 6, 9] > 0
