"""The local engine: this process, or several of this machine, one a GPU, one thread each on a CPU.

A worker is reached by its own pipe, so one that is killed holds no lock that the others need.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.benchmarks.running.units import Task
from counterlens.benchmarks.running.worker import Worker
from counterlens.benchmarks.running.worker_pool import TaskReport
from counterlens.core.errors import CounterlensError, RunFailed

if TYPE_CHECKING:
    from counterlens.core.plugin.registry import Registry
    from counterlens.core.runs.folder import Run

STARTS = 20  # of one worker that does nothing but die


@dataclass
class InProcess:
    """One hand: this very process."""

    worker: Worker
    heard: list[TaskReport] = field(default_factory=list)

    def idle(self) -> list[int]:
        return [] if self.heard else [0]

    def give(self, hand: int, task: Task) -> None:
        self.heard.append(attempt(self.worker, hand, task))

    def listen(self, seconds: float) -> list[TaskReport]:
        heard, self.heard = self.heard, []
        return heard

    def close(self) -> None:
        """Nobody has to go."""


def attempt(worker: Worker, hand: int, task: Task) -> TaskReport:
    """Do a task; what ends a run is heard, not raised."""
    begun = time.perf_counter()
    try:
        worker.do(task)
    except CounterlensError as error:
        return TaskReport(hand=hand, task=task, kind="stop", reason=str(error), exit_code=error.exit_code)
    return TaskReport(hand, task, "done", seconds=time.perf_counter() - begun)


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    ready: bool = False
    task: Task | None = None
    starts: int = 1


class ProcessPool:
    """Several workers of this machine, spawned, each with its own device."""

    def __init__(self, manifest: Mapping[str, Any], path: Path, devices: list[str], threads: int = 1) -> None:
        self.manifest, self.path, self.devices, self.threads = manifest, path, devices, threads
        self.context = multiprocessing.get_context("spawn")
        self.hands = [self._start(device) for device in devices]

    def _start(self, device: str) -> _Worker:
        mine, theirs = self.context.Pipe()
        args = (theirs, dict(self.manifest), str(self.path), device, self.threads)
        process = self.context.Process(target=serve, args=args, daemon=True)
        with _environment(self.threads):
            process.start()
        theirs.close()
        return _Worker(process, mine)

    def idle(self) -> list[int]:
        return [k for k, hand in enumerate(self.hands) if hand.ready and hand.task is None]

    def give(self, hand: int, task: Task) -> None:
        one = self.hands[hand]
        one.task = task
        with suppress(OSError):  # it has died: heard of at the next listening
            one.pipe.send(task)

    def listen(self, seconds: float) -> list[TaskReport]:
        heard: list[TaskReport] = []
        pipes = {hand.pipe: k for k, hand in enumerate(self.hands)}
        for pipe in wait(list(pipes), seconds):
            k = pipes[pipe]  # type: ignore[index]
            heard += self._from(k, self.hands[k])
        return heard

    def _from(self, k: int, hand: _Worker) -> list[TaskReport]:
        try:
            message = hand.pipe.recv()
        except (EOFError, OSError):
            return self._died(k, hand)
        if message == "ready":
            hand.ready = True
            return []
        task, hand.task = hand.task, None
        kind, reason, code, seconds = message
        assert task is not None
        return [TaskReport(hand=k, task=task, kind=kind, reason=reason, exit_code=code, seconds=seconds)]

    def _died(self, k: int, hand: _Worker) -> list[TaskReport]:
        hand.process.join(5)
        hand.pipe.close()
        code = hand.process.exitcode
        why = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        if hand.task is None and hand.starts >= STARTS:
            raise RunFailed(f"a worker died {STARTS} times before it did anything ({why}); what was finished is kept")
        self.hands[k] = self._start(self.devices[k])
        self.hands[k].starts = 1 if hand.task is not None else hand.starts + 1
        return [TaskReport(k, hand.task, "died", f"the worker died ({why})")] if hand.task is not None else []

    def close(self) -> None:
        for hand in self.hands:
            hand.pipe.close()
            hand.process.kill()
        for hand in self.hands:
            hand.process.join(5)


class _environment:
    """Threads of the libraries are decided when they load."""

    NAMES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")

    def __init__(self, threads: int) -> None:
        self.threads = str(threads)

    def __enter__(self) -> None:
        self.before = {name: os.environ.get(name) for name in self.NAMES}
        os.environ.update(dict.fromkeys(self.NAMES, self.threads))

    def __exit__(self, *_: object) -> None:
        for name, value in self.before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def serve(pipe: Connection, manifest: Mapping[str, Any], path: str, device: str, threads: int) -> None:
    """The life of a worker process: load what is installed, then one task after the other until the pipe closes."""
    import torch

    from counterlens.core.plugin.registry import load_registry
    from counterlens.core.runs.folder import Run

    torch.set_num_threads(threads)
    worker = Worker(manifest, Run(Path(path), dict(manifest)), load_registry(), device)
    try:
        pipe.send("ready")
        while True:
            heard = attempt(worker, 0, pipe.recv())
            pipe.send((heard.kind, heard.reason, heard.exit_code, heard.seconds))
    except (EOFError, OSError, KeyboardInterrupt):
        return  # the driver is gone, or says so


def crew(manifest: Mapping[str, Any], run: Run, devices: list[str], threads: int, registry: Registry) -> Any:
    """One device: this process; several: a process each."""
    import torch

    if len(devices) == 1:
        torch.set_num_threads(threads)
        return InProcess(Worker(manifest, run, registry, devices[0]))
    return ProcessPool(manifest, run.path, devices, threads)
