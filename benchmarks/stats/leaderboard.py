"""Methods over several suites: mean ranks, so that no suite's or metric's unit weighs more than another's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from counterlens.benchmarks.stats.pareto import CONTROLS

METRICS = ("flip_rate", "judge_agreement", "l1", "seconds")


def leaderboard(
    suites: Mapping[str, Sequence[Mapping[str, Any]]],
    metrics: Sequence[str] = METRICS,
    leave_out: Sequence[str] = CONTROLS,
) -> list[dict[str, Any]]:
    """Best first: ``method``, ``mean_rank`` (1 is best), ``ranks`` ({suite: {metric: rank}}), ``tables`` (how many it
    is ranked in), ``first`` (in how many it is best). Equal values share their mean rank; a method without a value, or
    absent from a suite, gets that table's last rank: what was not run wins nothing.

    ``suites``: rows of ``statistics.rows`` (or of set metrics) by suite.
    """
    methods = sorted({row["method"] for rows in suites.values() for row in rows} - set(leave_out))
    ranks: dict[str, dict[str, dict[str, float]]] = {method: {} for method in methods}
    for suite, rows in suites.items():
        for metric in metrics:
            for method, rank in ranked([row for row in rows if row["metric"] == metric], methods).items():
                ranks[method].setdefault(suite, {})[metric] = rank
    table = [_entry(method, by_suite) for method, by_suite in ranks.items()]
    return sorted(table, key=lambda row: (row["mean_rank"], row["method"]))


def ranked(rows: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> dict[str, float]:
    """{method: rank} in one table; empty where the metric has no direction or no method has a value."""
    from scipy.stats import rankdata

    values = {row["method"]: row["value"] for row in rows if row["value"] is not None}
    directions = {row["higher_is_better"] for row in rows}
    if not values.keys() & set(methods) or directions == {None}:
        return {}
    sign = -1 if directions == {True} else 1
    cost = [sign * values[method] if method in values else np.inf for method in methods]
    return dict(zip(methods, rankdata(cost).tolist(), strict=True))


def _entry(method: str, by_suite: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    every = [rank for ranks in by_suite.values() for rank in ranks.values()]
    return {
        "method": method,
        "mean_rank": float(np.mean(every)) if every else None,
        "tables": len(every),
        "first": sum(rank == 1 for rank in every),
        "ranks": {suite: dict(ranks) for suite, ranks in by_suite.items()},
    }
