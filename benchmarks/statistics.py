"""Estimates with intervals, and paired tests between methods, out of the rows that ``core.metrics.evaluate`` writes.

Images are what is sampled: intervals resample images (all of them, so that a population such as the flipped ones
varies as it would), and tests compare two methods on the same image and target. Nothing is dropped silently: every row
says how many images its population has, how many of them failed, and how many could not be measured.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from counterlens.core.metrics import Column, Keyed, Measure, SetMetric, evaluate_sets

if TYPE_CHECKING:
    from counterlens.core.measuring import Context

FEW = 30  # below this an interval over images is rough
LEVEL = 0.95
Rows = Sequence[Mapping[str, Any]]


def rows(
    measured: Mapping[str, Rows], columns: Mapping[str, Column], replicates: int = 2000, seed: int = 0
) -> list[dict[str, Any]]:
    """An estimate for every method and column: ``method``, ``metric``, ``value`` (mean over the measured images of the
    population), ``n`` (images of the population), ``asked`` (all images), ``nan`` (of the population, not measured),
    ``failed`` (items without a counterfactual, of all), ``population``, ``ci95`` ([low, high], None when nothing was
    measured), ``interval`` (``bootstrap`` or ``exact``), ``higher_is_better``, ``warning``.

    ``measured``: rows of ``evaluate`` by method. The same seed gives the same interval, whatever else is in the table.
    """
    return [
        {"method": method, **estimate(table, column, replicates, seed)}
        for method, table in measured.items()
        for column in columns.values()
        if column.scope == "image"
    ]


def estimate(table: Rows, column: Column, replicates: int = 2000, seed: int = 0) -> dict[str, Any]:
    """The row of one column, without ``method``; see ``rows``."""
    values = [row.get(column.name) for row in table]
    inside = [value for value in values if value is not None]
    found = [value for value in inside if math.isfinite(value)]
    low_high, how = interval(table, column.name, replicates, seed, column.binary)
    return {
        "metric": column.name,
        "value": float(np.mean(found)) if found else None,
        "n": len(inside),
        "asked": len(values),
        "nan": len(inside) - len(found),
        "failed": sum(bool(row.get("failed")) for row in table),
        "population": column.population,
        "ci95": low_high,
        "interval": how,
        "higher_is_better": column.higher_is_better,
        "warning": warning(len(found), len(inside)),
    }


def warning(found: int, inside: int) -> str:
    """What a reader should know of the numbers behind an estimate; empty when nothing."""
    if not found:
        return "nothing could be measured" if inside else "no image is of the population"
    notes = []
    if found < FEW:
        notes.append(f"{found} images: fewer than {FEW}, the interval is rough")
    if found < inside:
        notes.append(f"{inside - found} of {inside} images could not be measured")
    return "; ".join(notes)


def interval(
    table: Rows, name: str, replicates: int, seed: int, binary: bool = False
) -> tuple[list[float] | None, str]:
    """95 % percentile bootstrap over images (rows of one image are drawn together). Where every image says the same yes
    or no, which no resampling can vary, the exact binomial interval."""
    sums, counts = clusters(table, name)
    if not counts.sum():
        return None, ""
    values = {row[name] for row in table if row.get(name) is not None and math.isfinite(row[name])}
    if binary and len(values) == 1:
        from scipy.stats import binomtest

        images = int((counts > 0).sum())
        found = binomtest(int(values.pop()) * images, images).proportion_ci(LEVEL, "exact")
        return [float(found.low), float(found.high)], "exact"
    means = resampled(sums, counts, replicates, generator(seed, name))
    low, high = np.nanquantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)], "bootstrap"


def clusters(table: Rows, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(sum, count) of the measured values of every image, in the order of their names."""
    images: dict[str, list[float]] = {}
    for at, row in enumerate(table):
        values = images.setdefault(str(row.get("image") or at), [])
        value = row.get(name)
        if value is not None and math.isfinite(value):
            values.append(float(value))
    ordered = [images[key] for key in sorted(images)]
    return np.array([math.fsum(v) for v in ordered]), np.array([len(v) for v in ordered], dtype=float)


def resampled(sums: np.ndarray, counts: np.ndarray, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """[replicates] means of as many images drawn with replacement; nan where none of those drawn was measured."""
    n, at_once = len(sums), max(1, 2_000_000 // max(1, len(sums)))
    means = []
    for begin in range(0, replicates, at_once):
        drawn = rng.integers(0, n, (min(at_once, replicates - begin), n))
        below = counts[drawn].sum(1)
        means.append(np.divide(sums[drawn].sum(1), below, out=np.full(len(drawn), np.nan), where=below > 0))
    return np.concatenate(means)


def generator(seed: int, name: str) -> np.random.Generator:
    """Randomness that depends on the seed and the column alone, so that methods are resampled alike."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed}|{name}".encode()).digest()[:8], "big"))


def set_rows(
    metrics: Sequence[Measure],
    reals: Sequence[Keyed],
    fakes: Sequence[Keyed],
    context: Context,
    replicates: int = 50,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Rows of ``core.metrics.evaluate_sets`` with ``ci95`` and ``interval`` (``half-samples``, or empty with None).

    A distance of sets has a bias that depends on their size, which resampling with replacement makes worse. Halves of
    the images, drawn without replacement, vary as the whole does (delete-d jackknife with d = n/2, Shao and Wu 1989):
    the interval is the value ± 1.96 of their standard deviations. Near 0 such distances vary less than this says.
    """
    found = evaluate_sets(metrics, reals, fakes, context)
    for metric in (one for one in metrics if isinstance(one, SetMetric)):
        errors = half_samples(metric, reals, fakes, context, replicates, seed)
        bounds = {column.name: column.bounds for column in metric.columns(context)}
        for row in (row for row in found if row["metric"] in bounds):
            error = errors.get(row["metric"], math.nan)
            known = math.isfinite(row["value"]) and math.isfinite(error)
            row["ci95"] = around(row["value"], 1.96 * error, *bounds[row["metric"]]) if known else None
            row["interval"] = "half-samples" if known else ""
    return found


def half_samples(
    metric: SetMetric, reals: Sequence[Keyed], fakes: Sequence[Keyed], context: Context, replicates: int, seed: int
) -> dict[str, float]:
    """Standard error of every column; empty for a metric that takes too long, or for fewer than eight images."""
    keys = sorted({key for key, _ in reals} | {key for key, _ in fakes})
    if len(keys) < 8 or not metric.quick(metric.gather(reals[:2], fakes[:2], context)):
        return {}
    rng, values = generator(seed, metric.name), []
    for _ in range(replicates):
        half = {keys[at] for at in rng.permutation(len(keys))[: len(keys) // 2]}
        drawn = [[one for one in side if one[0] in half] for side in (reals, fakes)]
        values.append(metric.result(metric.gather(drawn[0], drawn[1], context)))
    share = len(keys) // 2 / (len(keys) - len(keys) // 2)  # the variance of the whole over that of a half
    return {name: float(np.std([value[name] for value in values], ddof=1) * share**0.5) for name in values[0]}


def around(value: float, reach: float, low: float | None, high: float | None) -> list[float]:
    """[value - reach, value + reach] within the bounds of the metric."""
    return [
        max(value - reach, -math.inf if low is None else low),
        min(value + reach, math.inf if high is None else high),
    ]


def compare(
    measured: Mapping[str, Rows],
    columns: Mapping[str, Column],
    against: str | None = None,
    replicates: int = 2000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Paired tests of all pairs of methods (or of each with ``against``) for every column.

    Answers ``metric``, ``first``, ``second``, ``n`` (pairs measured for both), ``unpaired``, ``difference`` (mean of
    first minus second), ``ci95``, ``test`` (``mcnemar`` for yes and no, ``wilcoxon`` else), ``p``, ``p_holm`` (over
    everything in the answer), ``better`` (the method that wins at 5 %, or None), ``warning``.
    """
    pairs = [(a, b) for a, b in combinations(measured, 2) if against is None or against in (a, b)]
    found = [
        paired(column, (a, measured[a]), (b, measured[b]), replicates, seed)
        for column in columns.values()
        if column.scope == "image"
        for a, b in pairs
    ]
    for row, p in zip(found, holm([row["p"] for row in found]), strict=True):
        row["p_holm"] = p
        row["better"] = winner(row, columns[row["metric"]].higher_is_better)
    return found


def paired(
    column: Column, first: tuple[str, Rows], second: tuple[str, Rows], replicates: int, seed: int
) -> dict[str, Any]:
    """One test; see ``compare``. Images outside the population of either method take no part."""
    (a, table_a), (b, table_b) = first, second
    left, right = by_subject(table_a, column.name), by_subject(table_b, column.name)
    shared = [key for key in sorted(left.keys() & right.keys()) if left[key] is not None and right[key] is not None]
    both = np.array([(left[key], right[key]) for key in shared], dtype=float).reshape(-1, 2)
    both = both[np.isfinite(both).all(1)]
    name, p = p_value(both, column.binary)
    change = [
        {"image": key[0], "change": left[key] - right[key]}
        for key in shared
        if math.isfinite(left[key]) and math.isfinite(right[key])
    ]
    low_high, _ = interval(change, "change", replicates, seed)
    return {
        "metric": column.name,
        "first": a,
        "second": b,
        "n": len(both),
        "unpaired": len(left.keys() | right.keys()) - len(both),
        "difference": float((both[:, 0] - both[:, 1]).mean()) if len(both) else None,
        "ci95": low_high,
        "test": name,
        "p": p,
        "warning": "" if len(both) >= FEW else f"{len(both)} pairs: fewer than {FEW}, the test has little power",
    }


def by_subject(table: Rows, name: str) -> dict[tuple[str, str], Any]:
    """Values by (image, target). ValueError when one of them is there twice: which would be paired?"""
    found: dict[tuple[str, str], Any] = {}
    for row in table:
        key = (str(row.get("image")), str(row.get("target")))
        if key in found:
            raise ValueError(f"image {key[0]} with target {key[1]} is there twice: average its seeds first")
        found[key] = row.get(name)
    return found


def p_value(both: np.ndarray, binary: bool) -> tuple[str, float | None]:
    """(name, two-sided p) of [n,2] paired values: McNemar's exact test for yes and no, Wilcoxon's signed ranks else."""
    from scipy.stats import binomtest, wilcoxon

    name = "mcnemar" if binary else "wilcoxon"
    if not len(both):
        return name, None
    difference = both[:, 0] - both[:, 1]
    if not difference.any():
        return name, 1.0
    if binary:  # only images on which the two disagree say anything
        return name, float(binomtest(int((difference > 0).sum()), int((difference != 0).sum())).pvalue)
    return name, float(wilcoxon(difference, zero_method="pratt").pvalue)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction; None stays None and is no part of the family.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted((p, at) for at, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (p, at) in enumerate(order):
        highest = max(highest, min(1.0, p * (len(order) - rank)))
        adjusted[at] = highest
    return adjusted


def winner(row: Mapping[str, Any], higher_is_better: bool | None) -> str | None:
    """The better method of a test that is significant at 5 % after correction, else None."""
    if higher_is_better is None or row["p_holm"] is None or row["p_holm"] >= 1 - LEVEL or not row["difference"]:
        return None
    return row["first"] if (row["difference"] > 0) == higher_is_better else row["second"]
