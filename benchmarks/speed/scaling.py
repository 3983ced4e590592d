"""What the benchmark itself costs: more workers, a schedule of many, and the share of time that is not the methods'.

All on the embedded shapes with a short ``reconstruct``, in worker processes with one thread each, timed from when
every worker is ready to when the last item is written.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from counterlens.benchmarks.protocol.bench import Bench
from counterlens.benchmarks.protocol.plan import plan
from counterlens.benchmarks.protocol.protocol import Protocol
from counterlens.benchmarks.protocol.suite import Suite
from counterlens.benchmarks.running import runner, units
from counterlens.benchmarks.running.local import ProcessPool
from counterlens.core.engine.session import Session

SHAPES = {"data": "domain:shapes", "classifier": "domain:shapes", "judge": "domain:shapes-judge"}
WORKERS = 64
UNITS = 20 * WORKERS  # of the simulated schedule, drawn from those that were recorded


def scaling(device: str, batch: int, steps: int, repeats: int) -> dict[str, Any]:
    """Two workers against one, in turns; and what their records say about overhead and larger crews."""
    ratios, warm = [], []
    events: list[dict[str, Any]] = []
    for _ in range(max(1, repeats // 2)):
        seconds, found = zip(*(_timed(workers, batch, steps) for workers in (1, 2)), strict=True)
        events += [event for part in found for event in part]
        ratios.append(seconds[0] / seconds[1])
        warm.append(2 * _mean(found[0]) / _mean(found[1]))
    return {
        "workers_speedup": float(np.median(ratios)),
        "workers_speedup_runs": ratios,
        "workers_speedup_warm": float(np.median(warm)),
        "bench_overhead": overhead(events),
        "schedule_efficiency": schedule(events),
        "schedule_efficiency_blind": schedule(events, known=False),
        "schedule_workers": WORKERS,
    }


def _timed(workers: int, batch: int, steps: int) -> tuple[float, list[dict[str, Any]]]:
    """Seconds of the work, and the events of its units with the seconds of their items."""
    protocol = Protocol(**SHAPES, limit=12 * batch, batch=batch, model="domain:shapes/ddpm", metrics=("flip_rate",))
    suite = Suite(name="scaling", summary="scaling", protocol=protocol, controls=())
    from counterlens.core.plugin.registry import load_registry

    with tempfile.TemporaryDirectory() as folder:
        planned = plan(suite, ["reconstruct"], Session(load_registry(third_party=False)), device="cpu", steps=steps)
        bench = runner.start(planned, Path(folder))
        with _cache(folder):  # its own: what the first run made must not help the second
            crew = ProcessPool(bench.run.manifest, bench.run.path, ["cpu"] * workers)
        try:
            while len(crew.idle()) < workers:
                crew.listen(0.5)
            begun = time.perf_counter()
            runner.Runner(bench, crew).work()
            spent = time.perf_counter() - begun
        finally:
            crew.close()
        return spent, _events(bench)


@contextmanager
def _cache(folder: str) -> Iterator[None]:
    before = os.environ.get("COUNTERLENS_CACHE")
    os.environ["COUNTERLENS_CACHE"] = str(Path(folder) / "cache")
    try:
        yield
    finally:
        os.environ.pop("COUNTERLENS_CACHE")
        if before is not None:
            os.environ["COUNTERLENS_CACHE"] = before


def _events(bench: Bench) -> list[dict[str, Any]]:
    """Finished units in their order, each with the seconds that its items say; the first of a hand loads networks."""
    records, seen, found = bench.records(), set(), []
    for event in bench.run.events():
        if event["event"] == "done":
            items = [records[row][k] for row in event["rows"] for k in range(*event["images"])]
            own = sum(record["seconds"] - record["seconds_reused"] for record in items if record)
            found.append({**event, "own": own, "loads": event["hand"] not in seen})
            seen.add(event["hand"])
    return found


def _mean(events: Sequence[Mapping[str, Any]]) -> float:
    """Seconds of a unit of a worker that has its networks."""
    return float(np.mean([event["seconds"] for event in events if not event["loads"]]))


def overhead(events: Sequence[Mapping[str, Any]]) -> float:
    """The share above the methods' own time, of units that did not have to load networks."""
    warm = [event for event in events if not event["loads"]]
    return sum(event["seconds"] for event in warm) / sum(event["own"] for event in warm) - 1


def schedule(events: Sequence[Mapping[str, Any]], seed: int = 0, known: bool = True) -> float:
    """The efficiency of many workers on units drawn from the recorded ones, longest first; not ``known``: as if all
    were expected to take as long as each other."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice([event["seconds"] for event in events], UNITS)
    return units.efficiency(drawn.tolist(), WORKERS, None if known else [1.0] * UNITS)
