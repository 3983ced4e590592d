"""Null-text inversion of images together against one at a time: ``speed --only inversion``."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

KINDS = {"early": "null-text least=0", "every_update": "null-text least=0 tolerance=0 slope=0"}


def null_text(device: str, batch: int, steps: int) -> dict[str, Any]:
    """Processor time of ``batch`` images of ``shapes`` together over that of single runs, turn by turn in one process;
    ``psnr_gap``: the largest difference of an image's PSNR, dB. Once as shipped and once with no image done early."""
    return {"null_text": {kind: _together(spec, device, batch, steps) for kind, spec in KINDS.items()}}


def _together(spec: str, device: str, batch: int, steps: int) -> dict[str, Any]:
    from counterlens.core.engine.prepare import prepare
    from counterlens.core.engine.request import Request
    from counterlens.core.engine.session import Session
    from counterlens.core.plugin.registry import load_registry

    registry = load_registry(third_party=False)
    request = Request(
        images=tuple(f"shapes:{k}" for k in range(batch)),
        model="domain:shapes/stable-diffusion",
        method="reconstruct",
        inverter=spec,
        combiner="cfg scale=3",
        steps=steps,
        batch=batch,
        device=device,
    )
    with ExitStack() as stack:
        desk, ready = Session(registry).desk(stack, prepare(request, registry), lambda *_: None)
        _timed(desk, ready[:1])  # warms up
        many, reached = _timed(desk, ready)
        singles = [_timed(desk, [one]) for one in ready]
    alone = [psnr for _, (psnr,) in singles]
    return {
        "ratio": many / sum(seconds for seconds, _ in singles),
        "cpu_seconds": [many, sum(seconds for seconds, _ in singles)],
        "psnr_gap": max(abs(a - b) for a, b in zip(reached, alone, strict=True)),
        "psnr": [min(reached), max(reached)],
    }


def _timed(desk: Any, ready: list[Any]) -> tuple[float, list[float]]:
    """Processor seconds of the inversion alone, and the PSNR of each image's reconstruction as decoded."""
    import torch

    from counterlens.core.images.pixels import as_saved, psnr
    from counterlens.core.problem.inversion_tools import walked_back

    problem = desk.problem(ready)
    begun = time.process_time()
    inversion = problem.invert()
    spent = time.process_time() - begun
    with torch.no_grad():
        back = problem.scene.picture(walked_back(problem, inversion))
    return spent, psnr(as_saved(back), as_saved(problem.scene.image)).tolist()
