"""What every engine is: hands that do one task at a time, and what is heard from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from counterlens.benchmarks.running.units import Task


@dataclass(frozen=True)
class TaskReport:
    """What became of a task: ``done``; ``died``: its worker did, in the middle; ``stop``: nobody can go on
    (``exit_code`` as in core/errors.py). ``items``: (digest, record, pictures) that the driver has to write."""

    hand: int
    task: Task
    kind: Literal["done", "died", "stop"]
    reason: str = ""
    exit_code: int = 1
    seconds: float = 0.0
    items: tuple[tuple[str, Mapping[str, Any], Mapping[str, Any]], ...] = field(default=(), repr=False)


class WorkerPool(Protocol):
    """Hands of one engine."""

    def idle(self) -> list[int]:
        """Hands that wait for a task."""
        ...

    def give(self, hand: int, task: Task) -> None:
        """Hand out a task."""
        ...

    def listen(self, seconds: float) -> list[TaskReport]:
        """What was heard within so many seconds; dead hands are replaced."""
        ...

    def close(self) -> None:
        """Send everybody home, at once."""
        ...
