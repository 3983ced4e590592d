"""What a pipeline alone does to an image, before any edit: how near it comes, and what the classifier then says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from counterlens.core.images.pixels import as_saved, psnr

if TYPE_CHECKING:
    from counterlens.core.problem.problem import Problem

LEAST_PSNR = 20.0  # dB; below it what changed is the pipeline's doing as much as the edit's


@torch.no_grad()
def reconstructions(problem: Problem) -> list[dict[str, Any]]:
    """``reconstruction_psnr`` (dB), ``reconstruction_p_target`` and ``reconstruction_flipped`` of every row,
    encoded and decoded.

    That is where a walk without an edit ends under an exact inversion; an inverter that measured its own has the last
    word on the PSNR.
    """
    scene = problem.scene
    decoded = as_saved(scene.resources.pipeline.decode(scene.x0))
    near = psnr(decoded, as_saved(scene.image))
    said = scene.resources.classifier.probabilities(decoded)
    p, flips = problem.target_of(said), said.argmax(1) == scene.target.to(said.device)
    own = scene.net.meter.psnr
    return [
        {
            "reconstruction_psnr": round(float(own.get(row, value)), 3),
            "reconstruction_p_target": round(float(probability), 6),
            "reconstruction_flipped": bool(flip),
        }
        for row, value, probability, flip in zip(scene.rows, near, p, flips, strict=True)
    ]


def warnings_of(reconstruction: dict[str, Any]) -> tuple[str, ...]:
    """What a user should hear of a pipeline that cannot reproduce an image."""
    value = reconstruction["reconstruction_psnr"]
    low = f"the pipeline reproduces this image at {value:.1f} dB only: part of the change is its own doing"
    alone = "the pipeline's reconstruction alone is decided as the target: no edit is needed for this flip"
    return (*([low] if value < LEAST_PSNR else []), *([alone] if reconstruction["reconstruction_flipped"] else []))
