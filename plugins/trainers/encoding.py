"""Images as the U-Net sees them, encoded once: latents and conditions, with and without the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from counterlens.core.errors import UsageError
from counterlens.core.images import Picture, fit, to_tensor
from counterlens.core.splits import split

if TYPE_CHECKING:
    from counterlens.core.training import Job


@dataclass(frozen=True, eq=False)
class Encoded:
    """``x0`` [N,C,h,w], ``cond`` and ``null`` [N or 1,…], ``extra`` [N,…] by name; ``rows`` of each part."""

    x0: Tensor
    cond: Tensor
    null: Tensor
    extra: Mapping[str, Tensor]
    rows: Mapping[str, list[int]]


@torch.no_grad()
def encode(job: Job, held: float, prompt: str, batch: int = 16) -> Encoded:
    """Every image that can be read; a text pipeline is told the class in the words of ``prompt``."""
    pipeline, examples, x0, cond, extra = job.network, [], [], [], []
    full = pipeline.branches[-1]
    waiting: list[tuple[Tensor, str]] = []

    def flush() -> None:
        if waiting:
            images = torch.stack([image for image, _ in waiting]).to(pipeline.device)
            x0.append(pipeline.encode(images).cpu())
            conditions, more = pipeline.condition(images, [words for _, words in waiting], (full,))
            cond.append(conditions[full].cpu())
            extra.append({name: value.cpu() for name, value in more.get(full, {}).items()})
            waiting.clear()

    for example, pixels in job.dataset.pictures(job.strict, job.notice):
        examples.append(example)
        waiting.append((to_tensor(fit(Picture(pixels), pipeline.size).pixels), prompt.format(example.label)))
        if len(waiting) == batch:
            flush()
            job.progress("encoding", len(examples), len(job.dataset))
    flush()
    if len(examples) < 4:
        raise UsageError(f"{job.dataset.uri}: {len(examples)} images that can be read; four at least, better hundreds")
    null = pipeline.condition(torch.zeros(1, 3, *pipeline.size, device=pipeline.device), [""], ("null",))[0]["null"]
    rows = split(examples, {"train": 1 - held, "held": held}, job.seed)
    joined = {name: torch.cat([part[name] for part in extra]) for name in extra[0]}
    return Encoded(torch.cat(x0), torch.cat(cond), null.cpu(), joined, rows)
