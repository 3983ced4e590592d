"""A run from its plan to its table: work is handed out, finished items are kept, everything is measured at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.benchmarks import controls, report, table, units
from counterlens.benchmarks.claims import Claims
from counterlens.benchmarks.data import Job
from counterlens.benchmarks.dispatch import Dispatcher
from counterlens.benchmarks.engines.crew import Crew
from counterlens.benchmarks.entries import Entry
from counterlens.benchmarks.measure import Measured, measured
from counterlens.benchmarks.place import Place
from counterlens.benchmarks.plan import Plan
from counterlens.benchmarks.protocol import Protocol
from counterlens.benchmarks.units import Unit
from counterlens.benchmarks.worker import failed
from counterlens.core.errors import UsageError
from counterlens.core.report import sections_of
from counterlens.core.run import Run

if TYPE_CHECKING:
    from counterlens.core.registry import Registry

Progress = Callable[[str, int, int], None]
CLAIMS = "claims"


@dataclass(frozen=True)
class Bench:
    """An open run of a benchmark: its folder, and the manifest read into what it says."""

    run: Run
    protocol: Protocol
    entries: tuple[Entry, ...]
    jobs: tuple[Job, ...]
    items: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, run: Run) -> Bench:
        """The benchmark in a run's folder; UsageError for a run of another kind."""
        manifest = run.manifest
        if manifest.get("kind") != "bench":
            raise UsageError(f"{run.path}: a run of explain, not of bench")
        protocol = Protocol(**{key: value for key, value in manifest["protocol"].items() if key != "hash"})
        entries = tuple(Entry(**row) for row in manifest["rows"])
        return cls(run, protocol, entries, tuple(Job(**job) for job in manifest["images"]), manifest["items"])

    @property
    def asked(self) -> int:
        return sum(len(found) for found in self.items.values())

    @property
    def draws(self) -> dict[str, str]:
        """Further draws: the name of a row, and the row it is a draw of."""
        return {entry.name: entry.draw_of for entry in self.entries if entry.draw_of}

    def records(self) -> dict[str, list[dict[str, Any] | None]]:
        """By row, an image each; None where an item is not finished (or is damaged)."""
        return {row: [self.run.finished(digest) for digest in digests] for row, digests in self.items.items()}


@dataclass
class Runner:
    """Does what is missing of a run with a crew."""

    bench: Bench
    crew: Crew
    place: Place = field(default_factory=Place)
    progress: Progress = lambda what, done, total: None
    done: int = 0

    def work(self) -> bool:
        """Whether everything is finished at the end (not so when it is left to other drivers)."""
        bench = self.bench
        before = [record for found in bench.records().values() for record in found if record]
        self.done = len(before)
        seconds = units.expected(bench.entries, before)
        first = units.units(bench.entries, len(bench.jobs), bench.protocol.batch)
        second = units.following(bench.entries, len(bench.jobs), bench.protocol.batch)
        with Claims(bench.run.path / CLAIMS) as claims:
            dispatcher = Dispatcher(
                bench.run, self.crew, claims, self._items, self._sizes, self._give_up, self._tick, not self.place.rank
            )
            return dispatcher.work(first, seconds) and dispatcher.work(second, seconds)

    def _items(self, unit: Unit) -> list[str]:
        return [self.bench.items[row][k] for row in unit.rows for k in unit.images]

    def _tick(self, more: int) -> None:
        self.done += more
        self.progress("items", self.done, self.bench.asked)

    def _sizes(self, unit: Unit) -> dict[int, float]:
        """For each image the size of change that a row which follows others has to match."""
        follows = {row for entry in self.bench.entries if entry.name in unit.rows for row in entry.follows}
        return (
            {k: self._size([self.bench.items[row][k] for row in sorted(follows)]) for k in unit.images}
            if follows
            else {}
        )

    def _size(self, digests: Sequence[str]) -> float:
        found = [self.bench.run.finished(digest) for digest in digests]
        folder = self.bench.run.path / "items"
        ends = [folder / str(record["digest"]) for record in found if record and not record.get("failure")]
        return controls.size_of([controls.change_of(end) for end in ends])

    def _give_up(self, digest: str, reason: str) -> None:
        for entry in self.bench.entries:
            for k, item in enumerate(self.bench.items.get(entry.name, ())):
                if item == digest:
                    record = failed(entry, self.bench.jobs[k], digest, self.bench.protocol, reason)
                    self.bench.run.write_item(digest, record, {})


def start(plan: Plan, out: Path | str, again: str = "missing", here: Place | None = None) -> Bench:
    """The run folder of a plan: the one that was begun before, or a new one."""
    here = here or Place()
    if here.size > 1 and again == "always":
        raise UsageError("--again always makes a folder for each of several drivers: give them a new --out instead")
    run = Run.create(out, f"bench-{plan.suite.name}", plan.digest, plan.manifest(), again)
    return Bench.of(run)


def retry(bench: Bench) -> int:
    """Forget failed items, so that they are done again; how many."""
    forgotten = 0
    for found in bench.records().values():
        for record in found:
            if record and record.get("failure"):
                os.unlink(bench.run.path / "items" / str(record["digest"]) / "item.json")
                forgotten += 1
    return forgotten


def conclude(bench: Bench, registry: Registry, device: str = "cpu") -> dict[str, Any]:
    """Measure what is finished and write table, report and exports; returns what ``bench --json`` ends with."""
    records = bench.records()
    found = measured(bench.run.path, bench.protocol, bench.jobs, records, registry, device, bench.draws)
    summary = summary_of(bench, records, found)
    bench.run.write("report.json", summary)
    table.export(bench.run, summary, found)
    every = [record for rows in records.values() for record in rows if record]
    sections = sections_of(registry, bench.run.manifest, every)
    summary["report"] = str(bench.run.write("report.html", report.page(bench, summary, found, sections)))
    return summary


def summary_of(
    bench: Bench, records: Mapping[str, Sequence[Mapping[str, Any] | None]], found: Measured
) -> dict[str, Any]:
    """Protocol, rows of the table, tests, and what is missing, skipped and failed."""
    every = [record for rows in records.values() for record in rows]
    return {
        "protocol": bench.protocol.dumped(),
        "suite": bench.run.manifest["suite"],
        "run": str(bench.run.path),
        "asked": bench.asked,
        "finished": sum(record is not None for record in every),
        "failed": sum(bool(record and record.get("failure")) for record in every),
        "skipped": {entry.name: entry.skipped for entry in bench.entries if entry.skipped},
        "empty": [row for row in records if row not in found.values and row not in bench.draws],
        "controls": [entry.name for entry in bench.entries if entry.control],
        "notes": [*bench.run.manifest["notes"], *over_budget(bench, records)],
        "rows": found.table,
        "tests": found.tests,
    }


def over_budget(bench: Bench, records: Mapping[str, Sequence[Mapping[str, Any] | None]]) -> list[str]:
    """A line for every row with items that cost more than the protocol's budget."""
    found = []
    for row, items in records.items():
        costs = [r["unet_evaluations"] + r["gradient_evaluations"] for r in items if r]
        over = sum(cost > bench.protocol.budget for cost in costs) if bench.protocol.budget else 0
        if over:
            budget = f"the budget of {bench.protocol.budget} evaluations"
            found.append(f"{row}: {over} of {len(costs)} items cost more than {budget}: compare with care")
    return found
