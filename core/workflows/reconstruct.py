"""What ``counterlens invert`` does: images inverted and walked back without an edit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from counterlens.core.utils.batched import batched


def logit_gap(record: dict[str, Any]) -> tuple[float | None, float | None]:
    """p1 - p2 of the target before and after, read off a record whose judge is the other classifier."""
    out = []
    for when in ("before", "after"):
        p1, p2 = (record.get(f"{who}_{when}") for who in ("probabilities", "judge"))
        out.append(None if not p1 or not p2 else p1[record["target"]] - p2[record["target"]])
    return out[0], out[1]


def reconstructed(desk: Any, ready: Sequence[Any], progress: Any) -> list[dict[str, Any]]:
    """For each image its reconstruction (a PIL ``picture``, None if it failed), PSNRs, costs and ``failure``."""
    from counterlens.core.engine.halved import halved

    rows: list[dict[str, Any]] = []
    for part in batched(ready, desk.prepared.request.batch):
        begun = time.perf_counter()

        def failed(one: Any, reason: str, begun: float = begun) -> dict[str, Any]:
            return {**_empty(one), "failure": reason, "seconds": round(time.perf_counter() - begun, 3)}

        rows += halved(part, lambda some, _: _rows(desk, some), failed, strict=True)
        progress("inverting", len(rows), len(ready))
    return rows


def _rows(desk: Any, ready: Sequence[Any]) -> list[dict[str, Any]]:
    import torch
    from PIL import Image

    from counterlens.core.images.pixels import as_saved, psnr, signed, to_pixels
    from counterlens.core.problem.inversion_tools import walked_back

    begun, problem = time.perf_counter(), desk.problem(ready)
    for editor in problem.editors:
        problem = editor.on_problem(problem)
    inversion, meter, scene = problem.invert(), problem.scene.net.meter, problem.scene
    evaluations = dict(meter.forward)
    with torch.no_grad():
        decode = scene.resources.pipeline.decode
        pictures, codec = (as_saved(decode(x0)) for x0 in (walked_back(problem, inversion), scene.x0))
    reached, best = psnr(pictures, as_saved(scene.image)), psnr(codec, as_saved(scene.image))
    seconds = round((time.perf_counter() - begun) / len(ready), 3)
    return [
        {
            **_empty(one),
            "psnr": round(float(reached[row]), 3),
            "psnr_codec": round(float(best[row]), 3),
            "unet_evaluations": evaluations.get(row, 0),
            "unet_backward": meter.backward[row],
            "cached": row in meter.spared,
            "seconds": seconds,
            "picture": Image.fromarray(to_pixels(signed(pictures[row]))),
        }
        for row, one in enumerate(ready)
    ]


def _empty(one: Any) -> dict[str, Any]:
    nothing = ("psnr", "psnr_codec", "unet_evaluations", "unet_backward", "picture", "reconstruction", "failure")
    return {"image": one.item.name, **dict.fromkeys(nothing), "cached": False}
