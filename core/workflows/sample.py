"""Pictures from noise, with or without an image to be conditioned on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.engine.request import Request
    from counterlens.core.engine.session import Session
    from counterlens.core.models.pipeline import Pipeline


def from_noise(session: Session, request: Request, count: int, progress: Any) -> list[np.ndarray]:
    """``count`` pictures uint8 [H,W,3] that the request's pipeline makes of noise under its prompt, by its seed."""
    from counterlens.core.engine.prepare import prepare
    from counterlens.core.h_space.recording import sampled
    from counterlens.core.images.pixels import to_pixels
    from counterlens.core.utils.batched import batched

    request = request.model_copy(update={"images": ()})
    prepared = prepare(request, session.registry, _blanks(request, count), needs={})
    found: list[np.ndarray] = []
    with ExitStack() as stack:
        desk, ready = session.desk(stack, prepared, progress)
        for numbers in batched(range(count), request.batch):
            problem = desk.problem([ready[n] for n in numbers])
            made = sampled(problem.scene, (), numbers, request.seed, problem.combiner)
            found += [to_pixels(picture) for picture in made.picture]
            progress("sampling", len(found), count)
    return found


def _blanks(request: Request, count: int) -> list[SourceImage]:
    """Rows without an image; what they show is never looked at."""
    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.images.fit import Picture

    blank = Picture(np.full((64, 64, 3), 128, np.uint8))
    return [SourceImage(name=f"noise:{k}", picture=blank, caption=request.prompt or "") for k in range(count)]


def generate(
    pipeline: Pipeline, prompts: Sequence[str], numbers: Sequence[int], combiner: Any, steps: int, seed: int, batch: int
) -> Tensor:
    """[N,3,H,W] in [0,1], as they would be saved: one picture a prompt, from the noise of its number.

    The same number under two prompts is the same noise, so that words are compared and not noises.
    """
    from counterlens.core.h_space.recording import sampled, scene_without_target
    from counterlens.core.images.pixels import as_saved
    from counterlens.core.utils.batched import batched
    from counterlens.core.utils.seeds import key

    grid, made = pipeline.grid(steps), []
    for part in batched(zip(numbers, prompts, strict=True), batch):
        some, texts = zip(*part, strict=True)
        grey = torch.zeros(len(part), 3, *pipeline.size)
        seeds = [key(seed, number, "words") for number in some]
        scene = scene_without_target(pipeline, None, grey, grid, seeds, combiner, texts)
        made.append(as_saved(sampled(scene, (), some, seed, combiner).picture).cpu())
    return torch.cat(made)
