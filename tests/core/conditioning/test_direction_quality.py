"""How good a direction is, measured on images that it was not fitted on."""

import pytest
import torch
from torch.nn.functional import normalize

from counterlens.core.conditioning.direction_quality import auroc, quality
from counterlens.core.conditioning.directions import ClassPair
from counterlens.core.plugin.registry import load_registry

REGISTRY = load_registry(third_party=False)


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


def test_quality_tells_a_real_difference_from_none():
    piece = REGISTRY.make("direction", "mean-difference")
    real = quality(piece, clouds())
    assert real.auroc > 0.9 and real.stability > 0.9 and real.n == (200, 200)
    g = torch.Generator().manual_seed(7)
    same = ClassPair(*(normalize(torch.randn(200, 12, generator=g), dim=1) for _ in range(2)))
    none = quality(piece, same)
    assert 0.35 < none.auroc < 0.65 and none.stability < real.stability


def test_auroc_by_hand():
    scores, positive = torch.tensor([0.1, 0.4, 0.4, 0.8]), torch.tensor([False, True, False, True])
    assert auroc(scores, positive) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
