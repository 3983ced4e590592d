"""The time by which speed is measured."""

from __future__ import annotations

import time


def now(device: str) -> float:
    """Seconds, when everything asked of the device is done."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter()
