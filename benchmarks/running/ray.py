"""The Ray engine: actors on the machines of a cluster hold the models; what they make is carried to the driver.

Nothing but the driver writes into the run's folder, so the machines need not share one. Ray is an extra:
``pip install "counterlens[ray]"``.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.benchmarks.running.local import attempt
from counterlens.benchmarks.running.units import Task
from counterlens.benchmarks.running.worker import Worker
from counterlens.benchmarks.running.worker_pool import TaskReport
from counterlens.core.errors import MissingError

if TYPE_CHECKING:
    from PIL import Image

GONE = "the Ray cluster went away ({}): run the same command again when it is back, what was finished is kept"
START = 120.0  # seconds in which the first actor must have answered


@dataclass
class Carried:
    """A sink that keeps items until they are fetched."""

    path: Path = Path("run")
    items: list[tuple[str, dict[str, Any], dict[str, Any]]] = field(default_factory=list)

    def finished(self, item: str) -> dict[str, Any] | None:
        return None

    def write_item(
        self, item: str, record: Mapping[str, Any], images: Mapping[str, Image.Image | bytes]
    ) -> dict[str, Any]:
        self.items.append((item, dict(record), dict(images)))
        return dict(record)

    def log(self, event: Mapping[str, Any]) -> None:
        """Nobody reads it there."""


class Actor:
    """What runs on the cluster: one worker with its models."""

    def __init__(self, manifest: Mapping[str, Any], device: str, threads: int) -> None:
        import torch

        from counterlens.core.plugin.registry import load_registry

        torch.set_num_threads(threads)
        self.sink = Carried()
        self.worker = Worker(manifest, self.sink, load_registry(), device)

    def ready(self) -> bool:
        """Answers when the models can be loaded."""
        return True

    def do(self, hand: int, task: Task) -> TaskReport:
        """Do a task and hand over its items."""
        self.sink.items = []
        heard = attempt(self.worker, hand, task)
        return TaskReport(
            hand=hand,
            task=task,
            kind=heard.kind,
            reason=heard.reason,
            exit_code=heard.exit_code,
            seconds=heard.seconds,
            items=tuple(self.sink.items),
        )


@dataclass
class _RayWorker:
    actor: Any
    asked: Any  # the reference that is waited for
    task: Task | None = None
    ready: bool = False


class Ray:
    """Actors of a Ray cluster, as many as asked for (one a GPU, or one a CPU of the cluster, if not said)."""

    def __init__(
        self,
        manifest: Mapping[str, Any],
        path: Path,
        address: str | None = None,
        workers: int | None = None,
        threads: int = 1,
    ) -> None:
        self.ray = imported()
        self.manifest, self.path, self.threads = dict(manifest), path, threads
        self.gpu = str(manifest["device"]).startswith("cuda")
        self.mine, self.gone = address is None, False
        self._connect(address, workers)
        self.head = self.ray.get_runtime_context().gcs_address
        try:
            self.hands = [self._start() for _ in range(workers or self._room())]
            self._first()
        except BaseException:
            self.close()
            raise

    def _connect(self, address: str | None, workers: int | None) -> None:
        """Join the cluster, or start one on this machine that is stopped at the end."""
        reach(address)
        own = {} if address else {"num_cpus": workers, "include_dashboard": False}
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(self.threads)}}
        try:
            self.ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env=environment if self.mine else None,
                **own,
            )
        except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
            line = next(iter(str(error).splitlines()), type(error).__name__)
            raise MissingError(f"no Ray cluster answers at {address or 'this machine'}: {line}") from None

    def _room(self) -> int:
        return max(1, int(self.ray.cluster_resources().get("GPU" if self.gpu else "CPU", 1)))

    def _start(self) -> _RayWorker:
        needs = {"num_gpus": 1} if self.gpu else {"num_cpus": 1}
        actor = self.ray.remote(**needs)(Actor).remote(self.manifest, "cuda" if self.gpu else "cpu", self.threads)
        return _RayWorker(actor, actor.ready.remote())

    def _first(self) -> None:
        """Wait until one actor can work; the others may still wait for room."""
        done, _ = self.ray.wait([hand.asked for hand in self.hands], timeout=START)
        if not done:
            raise MissingError(f"the Ray cluster has no room for a worker within {START:.0f} s: see ray status")
        try:
            self.ray.get(done)
        except self.ray.exceptions.RayError as error:
            raise MissingError(f"a worker cannot start on the Ray cluster: {_last(error)}") from None

    def idle(self) -> list[int]:
        return [k for k, hand in enumerate(self.hands) if hand.ready and hand.task is None]

    def give(self, hand: int, task: Task) -> None:
        one = self.hands[hand]
        one.task, one.asked = task, one.actor.do.remote(hand, task)

    def listen(self, seconds: float) -> list[TaskReport]:
        self._alive()
        waited = {hand.asked: k for k, hand in enumerate(self.hands) if hand.asked is not None}
        heard: list[TaskReport] = []
        try:
            done, _ = self.ray.wait(list(waited), timeout=seconds)
            for one in done:
                heard += self._from(waited[one], one)
        except (self.ray.exceptions.RaySystemError, ConnectionError, RuntimeError) as error:
            raise MissingError(GONE.format(_last(error))) from None
        return heard

    def _from(self, k: int, reference: Any) -> list[TaskReport]:
        hand = self.hands[k]
        try:
            answer = self.ray.get(reference)
        except self.ray.exceptions.RayActorError as error:
            self._alive()
            self.hands[k] = self._start()
            return [TaskReport(k, hand.task, "died", f"the worker died ({_last(error)})")] if hand.task else []
        except self.ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        hand.asked = None
        if hand.task is None:
            hand.ready = True
            return []
        hand.task = None
        return [answer]

    def _alive(self) -> None:
        """MissingError when the cluster's head is no more. Ray itself would wait a minute, then end this process."""
        try:
            reach(self.head)
        except MissingError:
            self.gone = True
            raise MissingError(GONE.format(f"nothing answers at {self.head}")) from None

    def close(self) -> None:
        """Stop the actors, and the cluster if it is ours. One that is gone is left at once: Ray would end this process
        after a minute without its head."""
        for hand in () if self.gone else getattr(self, "hands", ()):
            with suppress(Exception):
                self.ray.kill(hand.actor)
        with suppress(Exception):
            self.ray.shutdown()


def reach(address: str | None) -> None:
    """MissingError when nothing listens at HOST:PORT: Ray itself would try for minutes."""
    import socket

    host, _, port = (address or "").rpartition(":")
    if not host or not port.isdigit() or "//" in host:
        return
    try:
        socket.create_connection((host, int(port)), 5).close()
    except OSError as error:
        raise MissingError(f"no Ray cluster answers at {address}: {error.strerror or error}") from None


def imported() -> Any:
    """The ray module; MissingError with the command that installs it."""
    try:
        import ray
    except ImportError:
        raise MissingError('--engine ray needs Ray: pip install "counterlens[ray]"') from None
    return ray


def _last(error: BaseException) -> str:
    """The last line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
