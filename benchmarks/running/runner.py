"""A run from its plan to its table: work is handed out, finished items are kept, everything is measured at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from counterlens.benchmarks.protocol import controls
from counterlens.benchmarks.protocol.bench import Bench
from counterlens.benchmarks.running import units
from counterlens.benchmarks.running.claims import Claims
from counterlens.benchmarks.running.dispatch import Dispatcher
from counterlens.benchmarks.running.launch import LaunchRank
from counterlens.benchmarks.running.worker import failed
from counterlens.core.errors import UsageError
from counterlens.core.runs.folder import Run

if TYPE_CHECKING:
    from counterlens.benchmarks.protocol.plan import Plan
    from counterlens.benchmarks.running.units import Unit
    from counterlens.benchmarks.running.worker_pool import WorkerPool


Progress = Callable[[str, int, int], None]
CLAIMS = "claims"


@dataclass
class Runner:
    """Does what is missing of a run with a crew."""

    bench: Bench
    crew: WorkerPool
    place: LaunchRank = field(default_factory=LaunchRank)
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
                run=bench.run,
                crew=self.crew,
                claims=claims,
                items=self._items,
                sizes=self._sizes,
                give_up=self._give_up,
                progress=self._tick,
                waits=not self.place.rank,
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


def start(plan: Plan, out: Path | str, again: str = "missing", here: LaunchRank | None = None) -> Bench:
    """The run folder of a plan: the one that was begun before, or a new one."""
    here = here or LaunchRank()
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
