"""A network that looks through a window: only the part that may change, and some context, is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from counterlens.core.diffusion.levels import Estimate
from counterlens.core.diffusion.network import Network
from counterlens.core.diffusion.step import Step


@dataclass(frozen=True)
class Box:
    """A window: ``top``, ``left`` and its size (height, width)."""

    top: int
    left: int
    size: tuple[int, int]

    def of(self, x: Tensor) -> Tensor:
        """The window of ``x`` [...,h,w], a view."""
        return x[..., self.top : self.top + self.size[0], self.left : self.left + self.size[1]]

    def shrunk(self, by: float) -> Box:
        """The same window of an activation that is ``by`` times smaller than the latents."""
        return Box(round(self.top / by), round(self.left / by), (round(self.size[0] / by), round(self.size[1] / by)))


def boxes_of(free: Tensor, margin: float, stride: int) -> list[Box]:
    """For each row of ``free`` [B,1,h,w] (bool) the least box around it, ``margin`` shares of a side wider.

    Sides are multiples of ``stride``, so that the network can halve them; a row with nothing free has the least box.
    """
    return [_box(row[0], margin, stride) for row in free.cpu()]


def _box(free: Tensor, margin: float, stride: int) -> Box:
    spans = []
    for along, length in ((1, free.shape[0]), (0, free.shape[1])):
        at = free.any(along).nonzero().flatten()
        low, high = (int(at[0]), int(at[-1]) + 1) if len(at) else (0, 1)
        low, high = max(0, low - round(margin * length)), min(length, high + round(margin * length))
        side = min(length, -(-(high - low) // stride) * stride)
        spans.append((min(low, length - side), side))
    (top, height), (left, width) = spans
    return Box(top, left, (height, width))


@dataclass(frozen=True, eq=False)
class Window(Network):
    """The same network, asked about one box of each row; outside it the answer is ``behind`` [B,C,h,w], a clean image.

    Boxes of different sizes are widened to the largest, so that a batch stays one call.
    """

    boxes: tuple[Box, ...] = ()
    behind: Tensor | None = None

    def _answer(self, step: Step, editors: Sequence[Any], combine: Callable[..., Any]) -> Estimate:
        assert self.behind is not None
        boxes = widened(self.boxes, tuple(step.x.shape[-2:]))
        extra = {branch: {k: _cut(v, boxes, step.x) for k, v in parts.items()} for branch, parts in step.extra.items()}
        inner = replace(step, x=_cut(step.x, boxes, step.x), extra=extra)
        est = super()._answer(inner, editors, combine)
        x0, eps = self.behind, (step.x - step.now.a * self.behind) / step.now.s
        spread = est.spread
        if isinstance(spread, Tensor) and spread.shape[-2:] == est.x0.shape[-2:]:
            spread = _paste(torch.ones_like(x0), spread, boxes)
        return replace(est, x0=_paste(x0, est.x0, boxes), eps=_paste(eps, est.eps, boxes), spread=spread)


def widened(boxes: Sequence[Box], within: tuple[int, ...]) -> list[Box]:
    """The boxes, all of the largest size, moved inside ``within`` where they would stick out."""
    size = (max(box.size[0] for box in boxes), max(box.size[1] for box in boxes))
    return [Box(min(b.top, within[0] - size[0]), min(b.left, within[1] - size[1]), size) for b in boxes]


def _cut(value: Tensor, boxes: Sequence[Box], like: Tensor) -> Tensor:
    """The windows of ``value`` if it is as large as the latents (a picture beside them), else as it is."""
    if value.ndim != 4 or value.shape[-2:] != like.shape[-2:]:
        return value
    return torch.stack([box.of(row) for box, row in zip(boxes, value, strict=True)])


def _paste(whole: Tensor, parts: Tensor, boxes: Sequence[Box]) -> Tensor:
    rows = []
    for row, part, box in zip(whole, parts, boxes, strict=True):
        pad = (box.left, row.shape[-1] - box.left - box.size[1], box.top, row.shape[-2] - box.top - box.size[0])
        inside = torch.nn.functional.pad(torch.ones_like(part[:1], dtype=torch.bool), pad)
        rows.append(torch.where(inside, torch.nn.functional.pad(part, pad), row))
    return torch.stack(rows)
