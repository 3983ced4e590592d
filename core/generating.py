"""Pictures of words: samples of a text-conditioned pipeline, each with its own seed whatever its batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from counterlens.core.pipeline import Pipeline


def generate(
    pipeline: Pipeline, prompts: Sequence[str], numbers: Sequence[int], combiner: Any, steps: int, seed: int, batch: int
) -> Tensor:
    """[N,3,H,W] in [0,1], as they would be saved: one picture a prompt, from the noise of its number.

    The same number under two prompts is the same noise, so that words are compared and not noises.
    """
    from counterlens.core.problem import as_saved
    from counterlens.core.recording import bare, key, sampled

    grid, made = pipeline.grid(steps), []
    for at in range(0, len(prompts), max(1, batch)):
        part = slice(at, at + max(1, batch))
        grey = torch.zeros(len(prompts[part]), 3, *pipeline.size)
        seeds = [key(seed, number, "words") for number in numbers[part]]
        scene = bare(pipeline, None, grey, grid, seeds, combiner, prompts[part])
        made.append(as_saved(sampled(scene, (), numbers[part], seed, combiner).picture).cpu())
    return torch.cat(made)
