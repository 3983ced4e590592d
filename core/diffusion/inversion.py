"""What an inversion gives: a start of a trajectory that reproduces its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from counterlens.core.diffusion.levels import Level
    from counterlens.core.diffusion.step import Condition, Step


@dataclass(frozen=True, eq=False)
class NullConditions:
    """An inversion's own empty conditions [B,T,D], one a step, in place of the pipeline's."""

    null: Sequence[Tensor]

    def on_condition(self, cond: Condition, step: Step) -> Condition:
        return {**cond, "null": self.null[step.i].to(cond["null"])}


def joined(parts: Sequence[Inversion]) -> Inversion:
    """Inversions of one row each, on the same grid, as one batch."""
    lists: dict[str, Any] = {}
    for name in ("residual", "path", "null"):
        rows = [getattr(part, name) for part in parts]
        lists[name] = None if rows[0] is None else tuple(torch.cat(steps) for steps in zip(*rows, strict=True))
    psnr = [p.psnr for p in parts if p.psnr is not None]
    lists["psnr"] = torch.cat(psnr) if psnr else None
    return replace(parts[0], x=torch.cat([p.x for p in parts]), **lists)


@dataclass(frozen=True)
class Inversion:
    """A start that reproduces the source: ``x`` [B,C,h,w] at ``grid[0]``.

    ``churn[i]`` is the noise that step ``i`` does not keep, ``residual[i]`` [B,C,h,w] what it adds instead;
    ``path[i]`` [B,C,h,w] is the source's state at ``grid[i]``, where the inverter knows it; ``null[i]`` [B,T,D] the
    empty condition that step ``i`` is asked under instead of the pipeline's; ``psnr`` [B] of the reconstruction, in dB.
    """

    x: Tensor
    grid: tuple[Level, ...]
    churn: tuple[float | Tensor, ...] | None = None
    residual: tuple[Tensor, ...] | None = None
    path: tuple[Tensor, ...] | None = None
    null: tuple[Tensor, ...] | None = None
    psnr: Tensor | None = None

    def take(self, index: Sequence[int]) -> Inversion:
        at = list(index)
        residual, path, null = (
            None if t is None else tuple(r[at] for r in t) for t in (self.residual, self.path, self.null)
        )
        psnr = None if self.psnr is None else self.psnr[at]
        return replace(self, x=self.x[at], residual=residual, path=path, null=null, psnr=psnr)
