"""Where a pipeline runs and in which number type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from counterlens.core.errors import UsageError, unknown

if TYPE_CHECKING:
    import torch


DTYPES = ("float32", "float16", "bfloat16")


def dtype_of(name: str) -> torch.dtype:
    """A torch dtype by name; UsageError for others than the three that networks run in."""
    import torch

    if name not in DTYPES:
        raise unknown("dtype", name, DTYPES)
    return getattr(torch, name)


def device_of(name: str) -> str:
    """``auto`` is a GPU if there is one; a device that is not there is an error before anything is loaded."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device {name!r}: use cpu, cuda, cuda:N or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {name!r}: no CUDA device is available; use --device cpu")
    return name
