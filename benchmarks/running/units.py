"""How work is cut: a unit is a few images and every row that uses one pipeline, so that models load once and
inversions are made once. Units depend on the run alone, not on who works on it."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from counterlens.core.utils.digest import digest

if TYPE_CHECKING:
    from counterlens.benchmarks.protocol.entries import Entry


@dataclass(frozen=True)
class Task:
    """A unit as it is handed out: which of its items are ``missing``, and per image the size that ``random`` has to
    match, where it is part of the unit."""

    unit: Unit
    missing: frozenset[str]
    sizes: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Unit:
    """Images ``first`` to ``last`` (excluded) of the run, under each of ``rows``, which share a pipeline."""

    model: str
    rows: tuple[str, ...]
    first: int
    last: int

    @property
    def name(self) -> str:
        """Twelve hex digits, the same for everybody who works on the run."""
        return digest([self.model, self.rows, self.first, self.last])[:12]

    @property
    def images(self) -> range:
        return range(self.first, self.last)

    def cost(self, seconds: Mapping[str, float]) -> float:
        """Expected seconds: those of an image of each row, as far as known."""
        return sum(seconds.get(row, 1.0) for row in self.rows) * len(self.images)


def units(entries: Sequence[Entry], images: int, batch: int) -> list[Unit]:
    """Work that needs no other results, grouped by pipeline; rows of a pipeline stay in the order asked for."""
    free = [entry for entry in entries if not entry.skipped and not entry.follows]
    groups: dict[str, list[str]] = {}
    for entry in free:
        groups.setdefault(entry.model, []).append(entry.name)
    return [
        Unit(model, tuple(rows), k, min(k + batch, images))
        for model, rows in groups.items()
        for k in _cuts(images, batch)
    ]


def following(entries: Sequence[Entry], images: int, batch: int) -> list[Unit]:
    """Work that is measured by the results of other rows."""
    rows = tuple(entry.name for entry in entries if entry.follows and not entry.skipped)
    return [Unit("", rows, k, min(k + batch, images)) for k in _cuts(images, batch)] if rows else []


def _cuts(images: int, batch: int) -> range:
    return range(0, images, batch)


def expected(entries: Sequence[Entry], records: Sequence[Mapping[str, Any]] = ()) -> dict[str, float]:
    """Seconds an image of each row: the mean of those that are done, else in proportion to its steps."""
    spent: dict[str, list[float]] = {}
    for record in records:
        if record.get("seconds") and not record.get("failure"):
            spent.setdefault(str(record["method"]), []).append(float(record["seconds"]))
    guess = {e.name: 0.01 * float(e.method.get("steps", 1)) for e in entries}
    return {**guess, **{row: sum(found) / len(found) for row, found in spent.items()}}


def ordered(found: Sequence[Unit], seconds: Mapping[str, float]) -> list[Unit]:
    """Longest first (Graham 1969): what is short fills the gaps at the end."""
    return sorted(found, key=lambda unit: (-unit.cost(seconds), unit.model, unit.first))


def next_unit(waiting: Sequence[Unit], seconds: Mapping[str, float], holds: str = "") -> Unit:
    """The unit for a worker: the longest, or one of nearly the same length whose pipeline it has loaded."""
    first = max(waiting, key=lambda unit: unit.cost(seconds))
    enough = 0.5 * first.cost(seconds)
    at_hand = [unit for unit in waiting if unit.model == holds and unit.cost(seconds) >= enough]
    return at_hand[0] if at_hand else first


def makespan(actual: Sequence[float], workers: int, expected_costs: Sequence[float] | None = None) -> float:
    """The time until the last of ``workers`` is done, when whoever is free takes the unit that is expected to take
    longest of those left (list scheduling)."""
    guess = actual if expected_costs is None else expected_costs
    free = [0.0] * workers
    heapq.heapify(free)
    for k in sorted(range(len(actual)), key=lambda i: -guess[i]):
        heapq.heappush(free, heapq.heappop(free) + actual[k])
    return max(free)


def efficiency(actual: Sequence[float], workers: int, expected_costs: Sequence[float] | None = None) -> float:
    """The share of the workers' time that is work."""
    return sum(actual) / (workers * makespan(actual, workers, expected_costs))
