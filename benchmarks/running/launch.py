"""Which of several drivers this process is, by the environment of torchrun or of a Slurm array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from counterlens.core.errors import UsageError


@dataclass(frozen=True)
class LaunchRank:
    """Driver ``rank`` of ``size``; ``local`` counts on this machine; ``launcher`` is empty for a plain call."""

    rank: int = 0
    size: int = 1
    local: int = 0
    launcher: str = ""


def place(environ: Mapping[str, str]) -> LaunchRank:
    """torchrun's RANK and WORLD_SIZE first, then a Slurm array's task; UsageError when they make no sense."""
    if "RANK" in environ and "WORLD_SIZE" in environ:
        rank, size = _number(environ, "RANK"), _number(environ, "WORLD_SIZE")
        local = _number(environ, "LOCAL_RANK") if "LOCAL_RANK" in environ else rank
        return _checked(LaunchRank(rank, size, local, "torchrun"))
    if "SLURM_ARRAY_TASK_ID" in environ:
        first = _number(environ, "SLURM_ARRAY_TASK_MIN") if "SLURM_ARRAY_TASK_MIN" in environ else 0
        step = _number(environ, "SLURM_ARRAY_TASK_STEP") if "SLURM_ARRAY_TASK_STEP" in environ else 1
        rank = (_number(environ, "SLURM_ARRAY_TASK_ID") - first) // max(1, step)
        size = _number(environ, "SLURM_ARRAY_TASK_COUNT") if "SLURM_ARRAY_TASK_COUNT" in environ else rank + 1
        return _checked(LaunchRank(rank, size, 0, "slurm"))
    return LaunchRank()


def _number(environ: Mapping[str, str], name: str) -> int:
    try:
        return int(environ[name])
    except ValueError:
        raise UsageError(f"environment variable {name} is {environ[name]!r}, not a number") from None


def _checked(found: LaunchRank) -> LaunchRank:
    if not 0 <= found.rank < found.size:
        raise UsageError(f"{found.launcher}: rank {found.rank} of {found.size} does not exist: mend the environment")
    return found


def devices(asked: str, workers: int | None, here: LaunchRank) -> list[str]:
    """A device for each worker of this process: the GPUs, or as many CPU workers as there are cores."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked.startswith("cuda") and ":" not in asked and gpus:
        if here.launcher:
            return [f"cuda:{here.local % gpus}"]
        return [f"cuda:{k % gpus}" for k in range(workers or gpus)]
    if here.launcher:
        return [asked] * (workers or 1)
    return [asked] * (workers or (cores() if asked == "cpu" else 1))


def cores() -> int:
    """Cores that this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
