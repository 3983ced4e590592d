"""Set metrics against torchmetrics and hand-made tables; sums that merge to the bit."""

import math
import random as python_random

import numpy as np
import pytest
import torch

from counterlens.core.classifiers.features import Features
from counterlens.core.metrics.context import Context
from counterlens.core.metrics.evaluate import evaluate_sets
from counterlens.plugins.metrics.sets.fid import Fid, SpatialFid, SplitFid
from counterlens.plugins.metrics.sets.moments import Moments, frechet
from counterlens.plugins.metrics.sets.neighbours import Kid, PrecisionRecall

D = 12


class Projection(torch.nn.Module):
    """Fixed random features [B,12] of a picture."""

    def __init__(self):
        super().__init__()
        self.register_buffer("w", torch.randn(3 * 8 * 8, D, generator=torch.Generator().manual_seed(1)) / 8)
        self.num_features = D

    def forward(self, images):
        return (images.float().flatten(1) @ self.w.float()).relu()


def pictures(count, seed, bright=1.0, prefix=""):
    generator = torch.Generator().manual_seed(seed)
    return [(f"{prefix}{at}", bright * torch.rand(3, 8, 8, generator=generator)) for at in range(count)]


@pytest.fixture
def context(registry):
    context = Context(registry)
    context.kept["features", "test"] = Features("test", Projection())
    return context


def stacked(keyed):
    return torch.stack([picture for _, picture in keyed])


def test_fid_is_that_of_torchmetrics(context):
    from torchmetrics.image.fid import FrechetInceptionDistance

    reals, fakes = pictures(200, 0), pictures(150, 1, 0.8)
    reference = FrechetInceptionDistance(feature=Projection(), normalize=True, input_img_size=(3, 8, 8))
    reference.set_dtype(torch.float64)
    for side, real in ((reals, True), (fakes, False)):
        reference.update(stacked(side), real=real)
    (row,) = evaluate_sets([Fid(features="test")], reals, fakes, context)
    assert row["value"] == pytest.approx(float(reference.compute()), rel=1e-4)
    assert (row["n"], row["n_reals"], row["failed"]) == (150, 200, 0)
    assert "150 pictures: below 2048" in row["warning"]


def test_frechet_of_known_gaussians():
    """Two axes: |μ|² + Σ (σ1 - σ2)² when the covariances commute."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T  # mean 0 and covariance 1, exactly
    first, second = torch.from_numpy(x), torch.from_numpy(x * [2, 3] + [1, 0])
    assert frechet(Moments.of(first), Moments.of(second)) == pytest.approx(1 + 1 + 4, abs=1e-3)
    assert frechet(Moments.of(first), Moments.of(first)) == pytest.approx(0, abs=1e-6)
    assert math.isnan(frechet(Moments.of(first), Moments.of(first[:1])))


def test_sums_merge_to_the_bit_in_any_grouping():
    features = torch.randn(301, 40, generator=torch.Generator().manual_seed(0)) * 5
    whole = Moments.of(features)
    assert whole.exact
    rows = list(range(301))
    for seed in range(4):
        rng = python_random.Random(seed)
        rng.shuffle(rows)
        cuts = sorted(rng.sample(range(1, 301), 5))
        parts = [Moments.of(features[rows[a:b]]) for a, b in zip([0, *cuts], [*cuts, 301], strict=True)]
        rng.shuffle(parts)
        merged = Moments()
        for part in parts:
            merged = part.merge(merged)
        assert merged.n == 301
        assert np.array_equal(merged.total, whole.total) and np.array_equal(merged.outer, whole.outer)


def test_moments_say_when_they_stop_being_exact():
    assert not Moments.of(torch.full((10, 1), 4000.0)).exact


@pytest.mark.parametrize("metric", [Fid, SplitFid, Kid, PrecisionRecall])
def test_workers_states_merge_into_the_same_number(context, metric):
    metric = metric(features="test")
    reals, fakes = pictures(60, 0, prefix="i"), pictures(60, 1, 0.9, prefix="i")
    whole = metric.result(metric.gather(reals, fakes, context))
    parts = [metric.gather(reals[k::3], fakes[(k + 1) % 3 :: 3], context) for k in range(3)]
    assert metric.result(parts[2].merge(parts[0]).merge(parts[1])) == whole
    assert metric.result(parts[0].merge(parts[1].merge(parts[2]))) == whole


def test_split_fid_compares_no_picture_with_its_own(context):
    reals = pictures(400, 0)
    rows = evaluate_sets([Fid(features="test"), SplitFid(features="test")], reals, reals, context)
    same, split = (row["value"] for row in rows)
    assert same == pytest.approx(0, abs=1e-6)  # "identity" would win
    halves = [[(key, p) for key, p in reals if SplitFid().part(key) == half] for half in "AB"]
    by_hand = Fid(features="test").gather(halves[0], halves[1], context)
    assert split == pytest.approx(Fid().result(by_hand)["fid"], rel=1e-6)
    assert split > 0.05


def test_split_fid_has_no_value_when_the_keys_do_not_match(context):
    rows = evaluate_sets(
        [Fid(features="test"), SplitFid(features="test")], pictures(9, 0), pictures(9, 0, prefix="item"), context
    )
    assert math.isfinite(rows[0]["value"])
    assert math.isnan(rows[1]["value"]) and "keys of no source" in rows[1]["warning"]


def test_kid_is_that_of_torchmetrics(context):
    from torchmetrics.image.kid import KernelInceptionDistance

    reals, fakes = pictures(80, 0), pictures(80, 1, 0.7)
    reference = KernelInceptionDistance(feature=Projection(), subsets=1, subset_size=80, normalize=True)
    for side, real in ((reals, True), (fakes, False)):
        reference.update(stacked(side), real=real)
    (row,) = evaluate_sets([Kid(features="test")], reals, fakes, context)
    assert row["value"] == pytest.approx(float(reference.compute()[0]), rel=1e-4)


def test_kid_of_one_population_is_about_zero(context):
    rows = [
        evaluate_sets([Kid(features="test")], pictures(100, seed), pictures(100, seed + 50), context)[0]["value"]
        for seed in range(8)
    ]
    far = evaluate_sets([Kid(features="test")], pictures(100, 0), pictures(100, 1, 0.5), context)[0]["value"]
    assert abs(np.mean(rows)) < 0.1 * far and min(rows) < 0  # unbiased, so it may be negative


def test_precision_and_recall_by_hand():
    metric = PrecisionRecall(neighbours=1)
    real = np.array([[0.0], [1.0], [10.0], [11.0]])  # balls of radius 1 around each
    fake = np.array([[0.5], [5.0], [20.0], [20.5]])
    assert metric.covered(fake, real) == 1 / 4
    # balls of the fakes reach 4.5, 4.5, 0.5, 0.5: all but 10 and 11 lie within
    assert metric.covered(real, fake) == 2 / 4


def test_failed_items_are_counted_and_too_few_have_no_value(context):
    fakes = [*pictures(3, 1), ("lost", None)]
    rows = evaluate_sets([Fid(features="test"), PrecisionRecall(features="test")], pictures(5, 0), fakes, context)
    assert [row["metric"] for row in rows] == ["fid", "precision", "recall"]
    assert {row["failed"] for row in rows} == {1} and {row["n"] for row in rows} == {3}
    assert math.isnan(rows[1]["value"]) and math.isfinite(rows[0]["value"])
    (row,) = evaluate_sets([Fid(features="test")], pictures(5, 0), [("lost", None)], context)
    assert math.isnan(row["value"]) and row["n"] == 0


def test_features_of_a_domains_judge(registry):
    shapes = registry.domain("shapes")
    context = Context(registry, judge_uri="domain:shapes-judge")

    def take(first):
        return [
            (str(k), torch.from_numpy(shapes.sample(k).pixels.copy()).permute(2, 0, 1).float() / 255)
            for k in range(first, first + 60)
        ]

    reals, others = take(0), take(60)
    noisy = [
        (key, (p + 0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1))
        for key, p in others
    ]
    metrics = [Fid(), SpatialFid(), Kid()]
    floor = [row["value"] for row in evaluate_sets(metrics, reals, others, context)]
    worse = [row["value"] for row in evaluate_sets(metrics, reals, noisy, context)]
    assert all(b > a for a, b in zip(floor, worse, strict=True))
