"""Metrics of change maps on hand-made pictures."""

import math

import pytest
import torch

from counterlens.core.testing.pairs import failed_pair as failed
from counterlens.core.testing.pairs import grey, pair


def changed(*columns, size=8):
    """A black picture whose columns have these values."""
    picture = grey(0, size)
    for x, value in enumerate(columns):
        picture[:, :, x] = value
    return picture


def under(region, edited):
    return pair(grey(0, 8), edited, region=torch.tensor(region).expand(1, 8, 8).float())


LEFT = [1.0] * 4 + [0.0] * 4
RAMP = [k / 7 for k in range(8)]


def test_what_was_kept(measure):
    pairs = [
        under(LEFT, changed(0.5, 0.5, 0.5, 0.5)),
        under(LEFT, changed(0.5, 0.5, 0.5, 0.5, 0.1, 0, 0, 0.3)),
        under([1.0] * 8, changed(0.5)),
        pair(grey(0, 8), grey(0, 8)),
        failed(),
    ]
    assert measure("kept_max", pairs)[:2] == pytest.approx([0, 0.3])
    assert measure("kept_mean", pairs)[:2] == pytest.approx([0, 0.1])
    for name in ("kept_max", "kept_mean"):
        assert all(math.isnan(value) for value in measure(name, pairs)[2:])


def test_seams(measure):
    cut = under(LEFT, changed(0.4, 0.4, 0.4, 0.4))
    soft = under(LEFT, changed(0.7, 0.6, 0.3, 0.0))
    loud = under(LEFT, changed(0.0, 0.0, 0.0, 0.4))
    nothing, whole = under(LEFT, grey(0, 8)), under([1.0] * 8, changed(0.4))
    found = measure("seam", [cut, soft, loud, nothing, whole])
    assert found[:3] == pytest.approx([1, 0, 4]) and math.isnan(found[3]) and math.isnan(found[4])


def test_more_map_is_more_change(measure):
    pairs = [under(RAMP, changed(*(0.3 * c for c in RAMP))), under(RAMP, changed(*(0.3 * c for c in RAMP[::-1])))]
    assert measure("dose_slope", pairs) == pytest.approx([0.3, -0.3])
    assert measure("cam", pairs) == pytest.approx([1, -1])
    flat = [under([0.5] * 8, changed(*RAMP)), under(RAMP, grey(0.5, 8))]
    assert all(math.isnan(value) for value in measure("cam", flat))
    assert math.isnan(measure("dose_slope", flat)[0]) and measure("dose_slope", flat)[1] == pytest.approx(0, abs=1e-9)


def test_the_distance_of_a_map_is_a_function_of_its_correlation(measure):
    """Why DAM is left out: the least-squares residual of the map on the change is known from CAM alone."""
    g = torch.Generator().manual_seed(0)
    c, picture = torch.rand(8, 8, generator=g), torch.rand(3, 8, 8, generator=g)
    one = pair(grey(0, 8), picture, region=c[None])
    y, x = c.flatten().double(), picture.mean(0).flatten().double()
    design = torch.stack([x, torch.ones_like(x)], 1)
    residual = y - design @ torch.linalg.lstsq(design, y[:, None]).solution[:, 0]
    dam = (y - y.mean()).norm() * (1 - measure("cam", [one])[0] ** 2) ** 0.5
    assert residual.norm().item() == pytest.approx(dam.item(), rel=1e-5)
