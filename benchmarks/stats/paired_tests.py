"""Paired tests: two methods on the same image and target, with Holm's correction over the whole table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from counterlens.benchmarks.stats.bootstrap import LEVEL, bounds_of
from counterlens.core.metrics.metric import Column

FEW = 30  # below this an interval over images is rough, and a test has little power


def compare(
    measured: Mapping[str, Sequence[Mapping[str, Any]]],
    columns: Mapping[str, Column],
    against: str | None = None,
    replicates: int = 2000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Paired tests of all pairs of methods (or of each with ``against``) for every column.

    Answers ``metric``, ``first``, ``second``, ``n`` (pairs measured for both), ``unpaired``, ``difference`` (mean of
    first minus second), ``ci95``, ``test`` (``mcnemar`` for yes and no, ``wilcoxon`` else), ``p``, ``p_holm`` (over
    everything in the answer), ``better`` (the method that wins at 5 %, or None), ``warning``. ValueError when a method
    has the same image and target twice.
    """
    chosen = [column for column in columns.values() if column.scope == "image"]
    tables = {method: by_subject(rows, [column.name for column in chosen]) for method, rows in measured.items()}
    pairs = [(a, b) for a, b in combinations(measured, 2) if against is None or against in (a, b)]
    found = [row for a, b in pairs for row in paired(chosen, (a, tables[a]), (b, tables[b]), replicates, seed)]
    place = {column.name: at for at, column in enumerate(chosen)}
    found.sort(key=lambda row: place[row["metric"]])
    for row, p in zip(found, holm([row["p"] for row in found]), strict=True):
        row["p_holm"] = p
        row["better"] = winner(row, columns[row["metric"]].higher_is_better)
    return found


@dataclass(frozen=True)
class MethodTable:
    """Values [subjects, columns] of one method, nan where there is none; ``subjects``: (image, target), sorted."""

    subjects: list[tuple[str, str]]
    values: np.ndarray


def by_subject(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> MethodTable:
    """Rows by (image, target). ValueError when one of them is there twice: which would be paired?"""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        key = (str(row.get("image")), str(row.get("target")))
        if key in found:
            raise ValueError(f"image {key[0]} with target {key[1]} is there twice: average its seeds first")
        found[key] = [math.nan if row.get(name) is None else float(row[name]) for name in names]
    subjects = sorted(found)
    return MethodTable(subjects, np.array([found[key] for key in subjects]).reshape(len(subjects), len(names)))


def paired(
    columns: Sequence[Column],
    first: tuple[str, MethodTable],
    second: tuple[str, MethodTable],
    replicates: int,
    seed: int,
) -> list[dict[str, Any]]:
    """The tests of two methods; see ``compare``. Images outside the population of either take no part."""
    (a, left), (b, right) = first, second
    shared = sorted(set(left.subjects) & set(right.subjects))
    every = len(set(left.subjects) | set(right.subjects))
    x, y = (picked(table, shared) for table in (left, right))
    change = x - y
    measured = np.isfinite(change)
    bounds = bounds_of(*by_image(np.where(measured, change, 0.0), measured, shared), replicates, seed)
    found = []
    for at, column in enumerate(columns):
        there = change[measured[:, at], at]
        name, p = p_value(there, column.binary)
        found.append(
            {
                "metric": column.name,
                "first": a,
                "second": b,
                "n": len(there),
                "unpaired": every - len(there),
                "difference": float(there.mean()) if len(there) else None,
                "ci95": bounds[at].tolist() if len(there) else None,
                "test": name,
                "p": p,
                "warning": "" if len(there) >= FEW else f"{len(there)} pairs: fewer than {FEW}, little power",
            }
        )
    return found


def picked(table: MethodTable, subjects: Sequence[tuple[str, str]]) -> np.ndarray:
    """The rows of these subjects."""
    place = {key: at for at, key in enumerate(table.subjects)}
    return table.values[[place[key] for key in subjects]]


def by_image(
    change: np.ndarray, measured: np.ndarray, subjects: Sequence[tuple[str, str]]
) -> tuple[np.ndarray, np.ndarray]:
    """(sums, counts) of subjects [S,K] by image [N,K]: what is resampled."""
    names = sorted({image for image, _ in subjects})
    place = {name: at for at, name in enumerate(names)}
    rows = [place[image] for image, _ in subjects]
    sums, counts = (np.zeros((len(names), change.shape[1])) for _ in range(2))
    np.add.at(sums, rows, change)
    np.add.at(counts, rows, measured.astype(float))
    return sums, counts


def p_value(change: np.ndarray, binary: bool) -> tuple[str, float | None]:
    """(name, two-sided p) of differences [n]: McNemar's exact test for yes and no, Wilcoxon's signed ranks else."""
    from scipy.stats import binomtest, wilcoxon

    name = "mcnemar" if binary else "wilcoxon"
    if not len(change):
        return name, None
    if not change.any():
        return name, 1.0
    if binary:  # only images on which the two disagree say anything
        return name, float(binomtest(int((change > 0).sum()), int((change != 0).sum())).pvalue)
    return name, float(wilcoxon(change, zero_method="pratt").pvalue)


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
