"""What ``counterlens invert`` does: images inverted and walked back without an edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def logit_gap(record: dict[str, Any]) -> tuple[float | None, float | None]:
    """p1 - p2 of the target before and after, read off a record whose judge is the other classifier."""
    out = []
    for when in ("before", "after"):
        p1, p2 = (record.get(f"{who}_{when}") for who in ("probabilities", "judge"))
        out.append(None if not p1 or not p2 else p1[record["target"]] - p2[record["target"]])
    return out[0], out[1]


def reconstructed(desk: Any, ready: Sequence[Any], progress: Any) -> list[dict[str, Any]]:
    """For each image its reconstruction (a PIL ``picture``, None if it failed), PSNRs, costs and ``failure``."""
    size, rows = desk.prepared.request.batch, []
    for k in range(0, len(ready), size):
        rows += _reconstructed(desk, list(ready[k : k + size]))
        progress("inverting", min(k + size, len(ready)), len(ready))
    return rows


def _reconstructed(desk: Any, ready: list[Any]) -> list[dict[str, Any]]:
    """A batch; one that fails is halved, so that an image that cannot be inverted is alone in it."""
    import time

    from counterlens.core.errors import RunFailed

    begun = time.perf_counter()
    try:
        return _rows(desk, ready, begun)
    except RunFailed as error:
        if len(ready) == 1:
            return [{**_empty(ready[0]), "failure": str(error), "seconds": round(time.perf_counter() - begun, 3)}]
    half = (len(ready) + 1) // 2
    return _reconstructed(desk, ready[:half]) + _reconstructed(desk, ready[half:])


def _rows(desk: Any, ready: list[Any], begun: float) -> list[dict[str, Any]]:
    import time

    import torch
    from PIL import Image

    from counterlens.core.images.pixels import as_saved, psnr, signed, to_pixels
    from counterlens.core.problem.inversion_tools import walked_back

    problem = desk.problem(ready)
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
