"""Metrics over many pairs: which can run, in batches, one row an image and one a set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import UsageError
from counterlens.core.metrics.metric import KEYS, NAN, ImageMetric, SetMetric
from counterlens.core.utils.batched import batched

if TYPE_CHECKING:
    from counterlens.core.metrics.context import Context
    from counterlens.core.metrics.metric import (
        Column,
        CounterfactualPair,
        Keyed,
        Measure,
    )


def unavailable(metrics: Iterable[Measure], context: Context) -> dict[str, str]:
    """Metrics that cannot run, by name, each with what is missing and what to do. Loads nothing."""
    return {metric.name: why for metric in metrics if (why := metric.missing(context))}


def column_table(metrics: Iterable[Measure], context: Context) -> dict[str, Column]:
    """Every column by name; UsageError when two metrics would write the same one."""
    found: dict[str, Column] = {}
    for metric in metrics:
        for column in metric.columns(context):
            if column.name in found:
                raise UsageError(f"two metrics write {column.name!r}: leave one out, or give it other options")
            found[column.name] = column
    return found


def evaluate(metrics: Sequence[Measure], pairs: Iterable[CounterfactualPair], context: Context) -> list[dict[str, Any]]:
    """A row a pair, in their order: KEYS, ``failed`` and a Value for every column of the metrics of scope image.

    ``pairs`` may be a generator: ``context.batch`` of them are held at a time. Metrics of scope set are passed over.
    """
    chosen = [metric for metric in metrics if isinstance(metric, ImageMetric)]
    names = column_table(chosen, context)
    rows: list[dict[str, Any]] = []
    for part in batched(pairs, context.batch):
        answers = [(metric, metric.measure(part, context)) for metric in chosen]
        for at, pair in enumerate(part):
            row = {key: pair.record.get(key) for key in KEYS} | {"failed": pair.failed}
            rows.append({**row, **{name: values[at] for _, answer in answers for name, values in answer.items()}})
    for row in rows:
        if strange := row.keys() - names.keys() - {*KEYS, "failed"}:
            raise TypeError(f"a metric answered {sorted(strange)}, which it does not announce in names()")
    return rows


def evaluate_sets(
    metrics: Sequence[Measure], reals: Iterable[Keyed], fakes: Iterable[Keyed], context: Context
) -> list[dict[str, Any]]:
    """A row for every column of the metrics of scope set: what ``set_rows`` says. Pictures are held in memory.

    ``reals`` and ``fakes`` are keyed by ``Pair.subject``; a paired metric has no value when keys do not match.
    """
    chosen = [metric for metric in metrics if isinstance(metric, SetMetric)]
    reals, fakes = list(reals), list(fakes)
    failed = sum(picture is None for _, picture in fakes)
    strangers = {key for key, _ in fakes} - {key for key, _ in reals}
    rows: list[dict[str, Any]] = []
    for metric in chosen:
        found = set_rows(metric, metric.gather(reals, fakes, context), context, failed)
        if metric.paired and strangers:
            why = f"{len(strangers)} counterfactuals have keys of no source: use Pair.subject for both"
            found = [{**row, "value": NAN, "warning": why} for row in found]
        rows += found
    return rows


def set_rows(metric: SetMetric, state: Any, context: Context, failed: int = 0) -> list[dict[str, Any]]:
    """Rows of a gathered (or merged) state: ``metric``, ``value``, ``n`` counterfactuals, ``n_reals``, ``failed``,
    ``population``, ``higher_is_better``, ``warning``."""
    n_reals, n = metric.counts(state)
    values = metric.result(state)
    few = min(n_reals, n) < metric.least()
    warning = f"{min(n_reals, n)} pictures: below {metric.least()} {metric.name} says little" if few else ""
    return [
        {
            "metric": column.name,
            "value": values[column.name],
            "n": n,
            "n_reals": n_reals,
            "failed": failed,
            "population": column.population,
            "higher_is_better": column.higher_is_better,
            "warning": warning,
        }
        for column in metric.columns(context)
    ]
