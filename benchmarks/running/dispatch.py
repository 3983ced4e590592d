"""Hands and units: who gets what next, and what happens when a worker dies.

Every finished item is in the run's folder, so that a unit which is handed out again continues where it was.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from counterlens.benchmarks.running.claims import Claims
from counterlens.benchmarks.running.units import Task, Unit, next_unit
from counterlens.benchmarks.running.worker_pool import TaskReport, WorkerPool
from counterlens.core.errors import CounterlensError, MissingError, RunFailed, UsageError

if TYPE_CHECKING:
    from counterlens.core.runs.folder import Run

DEATHS = 3  # of workers on one unit, with nothing finished between them
LISTEN = 0.5
ERRORS: Mapping[int, type[CounterlensError]] = {2: UsageError, 4: MissingError}


@dataclass
class Dispatcher:
    """Work on the units of a run until all their items are finished.

    ``items(unit)`` are the digests of a unit; ``sizes(unit)`` what its task needs to know of other rows;
    ``give_up(digest, reason)`` writes down an item whose workers keep dying; ``waits``: stay until other drivers are
    done with what they have claimed (and take over what they abandon), else leave it to them.
    """

    run: Run
    crew: WorkerPool
    claims: Claims
    items: Callable[[Unit], Sequence[str]]
    sizes: Callable[[Unit], Mapping[int, float]]
    give_up: Callable[[str, str], None]
    progress: Callable[[int], None]
    waits: bool = True
    deaths: Counter[str] = field(default_factory=Counter)
    left: dict[str, int] = field(default_factory=dict)

    def work(self, units: Sequence[Unit], seconds: Mapping[str, float]) -> bool:
        """Whether everything is finished (not so when it is left to other drivers)."""
        waiting, elsewhere = list(units), list[Unit]()
        busy: dict[str, Task] = {}
        held: dict[int, str] = {}
        while waiting or busy or (elsewhere and self.waits):
            for hand in self.crew.idle():
                if (task := self._next(waiting, elsewhere, seconds, held.get(hand, ""))) is None:
                    break
                self.crew.give(hand, task)
                busy[task.unit.name] = task
                held[hand] = task.unit.model
            if busy or self._starting():
                for heard in self.crew.listen(LISTEN):
                    del busy[heard.task.unit.name]
                    waiting += self._after(heard)
            elif elsewhere and not waiting:
                if self.waits:
                    time.sleep(LISTEN)
                waiting, elsewhere = ([*elsewhere], []) if self.waits else ([], elsewhere)
        return not elsewhere

    def _starting(self) -> bool:
        return not self.crew.idle()

    def _next(
        self, waiting: list[Unit], elsewhere: list[Unit], seconds: Mapping[str, float], holds: str
    ) -> Task | None:
        """The next task, claimed; units that others have claimed go to ``elsewhere``, finished ones nowhere."""
        while waiting:
            unit = next_unit(waiting, seconds, holds)
            waiting.remove(unit)
            missing = self._missing(unit)
            if not missing:
                continue
            if not self.claims.take(unit.name):
                elsewhere.append(unit)
                continue
            missing = self._missing(unit)  # its former owner may have finished it just now
            if missing:
                self.left[unit.name] = len(missing)
                return Task(unit, missing, self.sizes(unit))
            self.claims.release(unit.name)
        return None

    def _missing(self, unit: Unit) -> frozenset[str]:
        return frozenset(digest for digest in self.items(unit) if self.run.finished(digest) is None)

    def _after(self, heard: TaskReport) -> list[Unit]:
        """What has to be done again after a task."""
        unit = heard.task.unit
        for digest, record, pictures in heard.items:
            self.run.write_item(digest, record, pictures)
        self.claims.release(unit.name)
        if heard.kind == "stop":
            raise ERRORS.get(heard.exit_code, RunFailed)(heard.reason)
        missing = self._missing(unit)
        self.progress(len(heard.task.missing) - len(missing))
        about = {"unit": unit.name, "model": unit.model, "rows": unit.rows, "images": [unit.first, unit.last]}
        said = {"event": heard.kind, **about, "items": len(heard.task.missing), "missing": len(missing)}
        self.run.log({**said, "seconds": round(heard.seconds, 4), "reason": heard.reason, "hand": heard.hand})
        if not missing:
            return []
        if heard.kind == "done":
            raise RunFailed(f"a unit was done and {len(missing)} of its items are not there: is the disk failing?")
        return self._again(unit, missing, heard.reason)

    def _again(self, unit: Unit, missing: frozenset[str], reason: str) -> list[Unit]:
        """A unit whose worker died: again; after three times with nothing finished in smaller pieces, at last as
        failed items."""
        progressed = len(missing) < self.left[unit.name]
        self.deaths[unit.name] = 1 if progressed else self.deaths[unit.name] + 1
        if self.deaths[unit.name] < DEATHS:
            return [unit]
        if len(unit.rows) > 1:
            return [Unit(unit.model, (row,), unit.first, unit.last) for row in unit.rows]
        if len(unit.images) > 1:
            return [Unit(unit.model, unit.rows, k, k + 1) for k in unit.images]
        for digest in missing:
            self.give_up(digest, f"{reason}, {DEATHS} times in a row")
        self.progress(len(missing))
        return []
