"""A whole benchmark: planned, worked on by this process's share of the workers, measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from counterlens.benchmarks.protocol.bench import Bench
    from counterlens.benchmarks.protocol.suite import Suite
    from counterlens.benchmarks.running.launch import LaunchRank
    from counterlens.core.plugin.registry import Registry
    from counterlens.core.problem.method import Method

Progress = Callable[[str, int, int], None]
Notice = Callable[[str], None]


@dataclass(frozen=True)
class Workers:
    """Who works: ``engine`` is ``local`` or ``ray``; ``count`` processes (one a GPU or CPU core if None) of ``threads``
    CPU threads each; ``address`` of a Ray cluster."""

    engine: str = "local"
    count: int | None = None
    threads: int = 1
    address: str | None = None


@dataclass(frozen=True)
class Hearing:
    """Who hears how it goes: ``progress(what, done, total)`` and ``notice(line)``."""

    progress: Progress = lambda what, done, total: None
    notice: Notice = lambda line: None


def run_suite(
    registry: Registry,
    suite: Suite,
    methods: Sequence[str | Method],
    out: Path | str = "runs",
    workers: Workers | None = None,
    hearing: Hearing | None = None,
    *,
    again: str = "missing",
    retry: bool = False,
    **planning: Any,
) -> dict[str, Any]:
    """The summary of a benchmark; ``planning``: what ``protocol.plan`` takes (controls, force, steps, device, …).

    ``again`` says what a second call does with finished items (``missing``, ``never``, ``always``), ``retry`` does
    failed ones again. Where other drivers hold the rest, ``complete`` is False and nothing is measured yet.
    """
    from counterlens.benchmarks.protocol.plan import plan
    from counterlens.benchmarks.report.summary import conclude
    from counterlens.benchmarks.running import launch, runner
    from counterlens.core.engine.session import Session

    workers, hearing, here = workers or Workers(), hearing or Hearing(), launch.place(os.environ)
    hearing.progress("loading", 0, 1)
    planned = plan(suite, methods, Session(registry), **planning)
    for line in planned.notes:
        hearing.notice(line)
    bench = runner.start(planned, out, again, here)
    if retry:
        hearing.notice(f"{runner.retry(bench)} failed items are done again")
    if again != "never" and not work(bench, workers, here, registry, hearing.progress):
        hearing.notice("the rest is claimed by other drivers; the first of them writes the table")
        return {"run": str(bench.run.path), "complete": False}
    summary = conclude(bench, registry)
    return {**summary, "complete": summary["finished"] == summary["asked"]}


def work(bench: Bench, workers: Workers, here: LaunchRank, registry: Registry, progress: Progress) -> bool:
    """Do what is missing; the run's status says how it ended. False: others hold the rest."""
    from counterlens.benchmarks.running import runner

    status, crew = "failed", None
    bench.run.log({"event": "start", "pid": os.getpid(), "engine": workers.engine, "rank": here.rank})
    try:
        crew = _crew(bench, workers, here, registry)
        finished = runner.Runner(bench, crew, here, progress).work()
        status = "done" if finished else "running"
        return finished
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        if crew is not None:
            crew.close()
        if status != "running":
            bench.run.finish(status, asked=bench.asked)


def _crew(bench: Bench, workers: Workers, here: LaunchRank, registry: Registry) -> Any:
    from counterlens.benchmarks.running import launch, local

    manifest: Mapping[str, Any] = bench.run.manifest
    if workers.engine == "ray":
        from counterlens.benchmarks.running.ray import Ray

        return Ray(manifest, bench.run.path, workers.address, workers.count, workers.threads)
    devices = launch.devices(manifest["device"], workers.count, here)
    return local.crew(manifest, bench.run, devices, workers.threads, registry)
