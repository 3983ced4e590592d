"""Estimates with intervals, and paired tests between methods, out of the rows that ``core.metrics.evaluate`` writes.

Images are what is sampled: intervals resample images (all of them, so that a population such as the flipped ones
varies as it would), and tests compare two methods on the same image and target. Nothing is dropped silently: every row
says how many images its population has, how many of them failed, and how many could not be measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from counterlens.benchmarks.stats.bootstrap import bounds_of, exact, generator, tabled
from counterlens.benchmarks.stats.paired_tests import FEW, compare, holm
from counterlens.core.metrics.evaluate import evaluate_sets
from counterlens.core.metrics.metric import Column, Keyed, Measure, SetMetric

if TYPE_CHECKING:
    from counterlens.core.metrics.context import Context

__all__ = ["compare", "estimate", "holm", "interval", "rows", "set_rows"]
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
    chosen = [column for column in columns.values() if column.scope == "image"]
    found = []
    for method, table in measured.items():
        intervals = intervals_of(table, chosen, replicates, seed)
        found += [
            {"method": method, **estimate(table, column, *known)}
            for column, known in zip(chosen, intervals, strict=True)
        ]
    return found


def estimate(table: Rows, column: Column, low_high: list[float] | None = None, how: str = "") -> dict[str, Any]:
    """The row of one column, without ``method``, with a known interval; see ``rows``."""
    values = [row.get(column.name) for row in table]
    inside = [value for value in values if value is not None]
    found = [value for value in inside if math.isfinite(value)]
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


def interval(table: Rows, column: Column, replicates: int = 2000, seed: int = 0) -> tuple[list[float] | None, str]:
    """(95 % interval, how it was made) of one column; see ``intervals_of``."""
    return intervals_of(table, [column], replicates, seed)[0]


def intervals_of(
    table: Rows, columns: Sequence[Column], replicates: int, seed: int
) -> list[tuple[list[float] | None, str]]:
    """For every column: ([low, high], ``bootstrap`` or ``exact``), or (None, "") where nothing was measured.

    The percentile bootstrap over images (rows of one image are drawn together). Where every image says the same yes or
    no, which no resampling can vary, the exact binomial interval.
    """
    sums, counts = tabled(table, [column.name for column in columns])
    found = bounds_of(sums, counts, replicates, seed)
    answer: list[tuple[list[float] | None, str]] = []
    for at, column in enumerate(columns):
        total, images = sums[:, at].sum(), int((counts[:, at] > 0).sum())
        if not images:
            answer.append((None, ""))
        elif column.binary and total in (0, counts[:, at].sum()):
            answer.append((exact(images if total else 0, images), "exact"))
        else:
            answer.append((found[at].tolist(), "bootstrap"))
    return answer


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
