"""Images as the U-Net sees them, encoded once: latents and conditions, with and without the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from counterlens.core.data.splits import split
from counterlens.core.diffusion.levels import Level
from counterlens.core.diffusion.levels import rows as level_rows
from counterlens.core.errors import UsageError
from counterlens.core.images.fit import Picture, fit
from counterlens.core.images.pixels import to_tensor

if TYPE_CHECKING:
    from counterlens.core.models.pipeline import Pipeline
    from counterlens.core.training.trainer import TrainJob


@dataclass(frozen=True, eq=False)
class Encoded:
    """``x0`` [N,C,h,w], ``cond`` and ``null`` [N or 1,…], ``extra`` [N,…] by name; ``rows`` of each part."""

    x0: Tensor
    cond: Tensor
    null: Tensor
    extra: Mapping[str, Tensor]
    rows: Mapping[str, list[int]]
    labels: tuple[str, ...] = ()


@torch.no_grad()
def encode(job: TrainJob, held: float, prompt: str, batch: int = 16) -> Encoded:
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
    return Encoded(
        x0=torch.cat(x0),
        cond=torch.cat(cond),
        null=null.cpu(),
        extra=joined,
        rows=rows,
        labels=tuple(example.label for example in examples),
    )


def denoising_loss(
    pipeline: Pipeline, x0: Tensor, cond: Tensor, extra: Mapping[str, Tensor], g: torch.Generator
) -> Tensor:
    """[B]: mean squared error of the network's answer about images noised at random levels (Ho et al. 2020, eq. 14),
    in its own parametrisation."""
    # one level less than there are: schedulers with an offset would step over the end
    levels = pipeline.grid(int(pipeline.scheduler.config.num_train_timesteps) - 1)[:-1]
    device = pipeline.device
    eps = torch.randn(x0.shape, generator=g).to(device)
    at = torch.randint(len(levels), (len(x0),), generator=g)
    level = level_rows([levels[int(i)] for i in at], device)
    x0, cond = x0.to(device), cond.to(device)
    t = torch.as_tensor(level.t, device=device)
    out = pipeline.predict(level.noise(x0, eps).to(pipeline.dtype), t, cond, extra)
    wanted = target_of(level, x0, eps, pipeline.dynamics.kind)
    return mse_loss(out[:, : pipeline.channels].float(), wanted, reduction="none").flatten(1).mean(1)


def target_of(level: Level, x0: Tensor, eps: Tensor, kind: str) -> Tensor:
    """What a network of this parametrisation should answer: the inverse of ``Level.split``."""
    if kind == "epsilon":
        return eps
    if kind == "sample":
        return x0
    return eps - x0 if kind == "flow" else level.a * eps - level.s * x0
