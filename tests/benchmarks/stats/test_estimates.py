"""Estimates, intervals and tests against hand-made tables and other implementations."""

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy import stats

from counterlens.benchmarks.stats import bootstrap, leaderboard, pareto
from counterlens.benchmarks.stats import estimates as estimators
from counterlens.core.metrics.context import Context
from counterlens.core.metrics.metric import YES_NO, Column, SetMetric
from counterlens.core.plugin.registry import load_registry

NAN = math.nan


def column(name="l1", binary=False, higher=False, population="all"):
    return Column(name, name, higher, (0, 1), YES_NO if binary else "", "pixels", population, "image", "")


def table(values, name="l1", **more):
    return [
        {"digest": str(at), "image": f"i{at:04}", "target": "t", "failed": False, name: value, **more}
        for at, value in enumerate(values)
    ]


def test_what_failed_and_what_is_outside_is_counted():
    rows = table([1.0, NAN, None, 2.0])
    rows[1]["failed"] = True
    (row,) = estimators.rows({"m": rows}, {"l1": column()}, replicates=50)
    assert {key: row[key] for key in ("method", "metric", "value", "n", "asked", "nan", "failed")} == {
        "method": "m", "metric": "l1", "value": 1.5, "n": 3, "asked": 4, "nan": 1, "failed": 1,
    }  # fmt: skip
    assert "1 of 3 images could not be measured" in row["warning"] and "fewer than 30" in row["warning"]


def test_nothing_measured_has_no_value_and_says_so():
    nothing = estimators.estimate(table([NAN, NAN]), column())
    assert (nothing["value"], nothing["ci95"], nothing["warning"]) == (None, None, "nothing could be measured")
    outside = estimators.estimate(table([None]), column())
    assert (outside["n"], outside["warning"]) == (0, "no image is of the population")


def test_the_bootstrap_is_that_of_scipy():
    values = np.random.default_rng(0).gamma(2, size=200)
    (low, high), how = estimators.interval(table(values), column(), 20000, seed=1)
    reference = stats.bootstrap((values,), np.mean, n_resamples=20000, method="percentile", rng=3).confidence_interval
    assert how == "bootstrap"
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=0.01)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    hits = 0
    for seed in range(200):
        (low, high), _ = estimators.interval(table(rng.normal(3, 1, 60)), column(), 300, seed)
        hits += low <= 3 <= high
    assert 178 <= hits <= 199  # 190 expected


def test_intervals_depend_on_the_seed_alone():
    rows = table(np.random.default_rng(0).normal(size=50))
    first = estimators.interval(rows, column(), 100, 0)
    assert estimators.interval(list(reversed(rows)), column(), 100, 0) == first
    assert estimators.interval(rows, column(), 100, 1) != first


def test_a_flip_rate_of_one_is_not_certain():
    (low, high), how = estimators.interval(table([1.0] * 20), column(binary=True), 100, 0)
    assert (how, high) == ("exact", 1.0)
    assert low == pytest.approx(0.025 ** (1 / 20))  # Clopper and Pearson's bound
    same, how = estimators.interval(
        table([0.0] * 20), column(), 100, 0
    )  # an identical picture is at distance 0 for sure
    assert (same, how) == ([0.0, 0.0], "bootstrap")


def test_many_images_are_drawn_in_parts(monkeypatch):
    rows = table(np.random.default_rng(0).normal(size=50))
    whole, _ = estimators.interval(rows, column(), 4000, 0)
    monkeypatch.setattr(bootstrap, "CHUNK", 1000)
    parts, _ = estimators.interval(rows, column(), 4000, 0)
    assert parts == pytest.approx(whole, abs=1e-12)


def test_rows_of_one_image_are_drawn_together():
    values = np.repeat(np.random.default_rng(0).normal(size=40), 10)
    apart = table(values)
    together = [{**row, "image": f"i{at // 10}"} for at, row in enumerate(apart)]
    wide = np.ptp(estimators.interval(together, column(), 2000, 0)[0])
    narrow = np.ptp(estimators.interval(apart, column(), 2000, 0)[0])
    assert 2.4 < wide / narrow < 4.0  # the root of 10


def test_mcnemar_by_hand():
    first = [1.0] * 12 + [0.0] * 2 + [1.0] * 6
    second = [0.0] * 12 + [1.0] * 2 + [1.0] * 6
    columns = {"l1": column(binary=True, higher=True)}
    (row,) = estimators.compare({"a": table(first), "b": table(second)}, columns, replicates=50)
    by_hand = 2 * sum(math.comb(14, k) for k in range(3)) / 2**14  # 2 against 12 of 14 that disagree
    assert (row["test"], row["n"], row["difference"]) == ("mcnemar", 20, 0.5)
    assert row["p"] == pytest.approx(by_hand)
    assert row["better"] == "a"


def test_wilcoxon_and_who_is_better():
    rng = np.random.default_rng(0)
    near = rng.uniform(0.1, 0.2, 40)
    far = near + rng.uniform(0, 0.1, 40)
    measured = {"near": table(near), "far": table(far), "same": table(near)}
    rows = estimators.compare(measured, {"l1": column()}, replicates=50)
    found = {(row["first"], row["second"]): row for row in rows}
    assert found["near", "far"]["p"] == pytest.approx(stats.wilcoxon(near, far).pvalue, rel=1e-6)
    assert found["near", "far"]["better"] == "near"
    assert (found["near", "same"]["p"], found["near", "same"]["better"]) == (1.0, None)
    assert found["near", "far"]["p_holm"] == pytest.approx(3 * found["near", "far"]["p"])
    low, high = found["near", "far"]["ci95"]
    assert low < found["near", "far"]["difference"] < high < 0


def test_only_images_that_both_measured_are_compared():
    rows = estimators.compare({"a": table([1.0, 2.0, NAN, None]), "b": table([1.5, NAN, 1.0, 1.0])}, {"l1": column()})
    assert (rows[0]["n"], rows[0]["unpaired"]) == (1, 3)
    assert "1 pairs: fewer than 30" in rows[0]["warning"]


def test_against_one_method_only():
    measured = {name: table([1.0, 2.0]) for name in "abc"}
    rows = estimators.compare(measured, {"l1": column()}, against="b", replicates=10)
    assert [(row["first"], row["second"]) for row in rows] == [("a", "b"), ("b", "c")]


def test_the_same_image_twice_cannot_be_paired():
    with pytest.raises(ValueError, match="twice"):
        estimators.compare({"a": [*table([1.0]), *table([2.0])], "b": table([1.0])}, {"l1": column()})


def test_holm():
    # by hand: 4 x 0.005, 3 x 0.011, 2 x 0.02, 0.04 raised to the one before it
    found = estimators.holm([0.02, 0.005, None, 0.04, 0.011])
    assert found.pop(2) is None
    assert found == pytest.approx([0.04, 0.02, 0.04, 0.033])
    assert estimators.holm([0.9, 0.8]) == [1.0, 1.0]


def estimates(**methods):
    directions = {"flip_rate": True, "l1": False, "seconds": False}
    return [
        {
            "method": m.replace("_", "-"),
            "metric": k,
            "value": v,
            "ci95": [v * 0.9, v * 1.1],
            "n": 40,
            "higher_is_better": d,
        }
        for m, values in methods.items()
        for (k, d), v in zip(directions.items(), values, strict=True)
    ]


def test_the_front():
    rows = estimates(
        good=(0.9, 0.1, 1.0), fast=(0.5, 0.2, 0.1), beaten=(0.9, 0.1, 2.0), tie=(0.9, 0.1, 1.0), pgd=(1, 0, 0)
    )
    assert pareto.front(rows) == ["fast", "good", "tie"]
    assert pareto.front(rows, leave_out=()) == ["pgd"]


def test_a_method_without_a_value_is_not_on_the_front():
    rows = estimates(good=(0.9, 0.1, 1.0))
    rows.append({**rows[0], "method": "half"})
    assert pareto.front(rows) == ["good"]


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_plot(tmp_path, ending):
    rows = estimates(good=(0.9, 0.1, 1.0), fast=(0.5, 0.2, 0.1), pgd=(1, 0.01, 0.2))
    path = pareto.plot(rows, tmp_path / f"front.{ending}")
    assert path.stat().st_size > 4000
    assert pareto.plot(rows, tmp_path / f"again.{ending}").read_bytes() == path.read_bytes() or ending == "svg"
    assert pareto.plot([], tmp_path / "none.png") is None and not (tmp_path / "none.png").exists()


def test_the_leaderboard_by_hand():
    shapes = estimates(a=(0.9, 0.1, 1.0), b=(0.5, 0.1, 0.5), pgd=(1, 0, 0))
    digits = estimates(a=(0.9, 0.1, 1.0))
    first, second = leaderboard.leaderboard({"shapes": shapes, "digits": digits}, ("flip_rate", "l1", "seconds"))
    assert (first["method"], first["ranks"]["shapes"]) == ("a", {"flip_rate": 1.0, "l1": 1.5, "seconds": 2.0})
    assert first["mean_rank"] == pytest.approx((1 + 1.5 + 2 + 1 + 1 + 1) / 6)
    assert second["ranks"]["digits"] == {"flip_rate": 2.0, "l1": 2.0, "seconds": 2.0}
    assert (first["first"], second["first"], first["tables"]) == (4, 1, 6)


class Means(SetMetric):
    """Difference of the mean brightness: its standard error is known."""

    name: ClassVar[str] = "means"

    def gather(self, reals, fakes, context):
        return [torch.stack([picture.mean() for _, picture in side if picture is not None]) for side in (reals, fakes)]

    def result(self, state):
        return {"means": float(state[1].mean() - state[0].mean())}

    def counts(self, state):
        return len(state[0]), len(state[1])


def keyed(count, seed, shift=0.0):
    values = torch.randn(count, generator=torch.Generator().manual_seed(seed)) + shift
    return [(f"{at}", value.expand(3, 2, 2)) for at, value in enumerate(values)]


def test_half_samples_have_the_standard_error_of_the_whole():
    context = Context(load_registry(third_party=False))
    reals, fakes = keyed(400, 0), keyed(400, 1, 0.5)
    (row,) = estimators.set_rows([Means()], reals, fakes, context, replicates=400)
    assert row["interval"] == "half-samples"
    low, high = row["ci95"]
    error = sum(torch.stack([p.mean() for _, p in side]).var().item() / 400 for side in (reals, fakes)) ** 0.5
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.15)
    assert estimators.set_rows([Means()], reals, fakes, context, replicates=400) == [row]


def test_few_images_have_no_interval_of_sets():
    context = Context(load_registry(third_party=False))
    (row,) = estimators.set_rows([Means()], keyed(5, 0), [*keyed(4, 1), ("4", None)], context)
    assert (row["ci95"], row["interval"], row["n"], row["failed"]) == (None, "", 4, 1)
