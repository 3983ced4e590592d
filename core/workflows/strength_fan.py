"""A fan of strengths: one picture under a series of change maps, in one batch, with the measured change beside each.

The rows of the batch share encodings, conditions and inversions. The last row is one picture in which strips side by
side have the strengths of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from counterlens.core.images.map_ops import union
from counterlens.core.images.pixels import as_saved

if TYPE_CHECKING:
    from counterlens.core.diffusion.levels import Level
    from counterlens.core.diffusion.lock import Lock
    from counterlens.core.problem.problem import Problem


@dataclass(frozen=True, eq=False)
class Fan:
    """``pictures`` [N+1,3,H,W] in [0,1], one a strength and the strips; ``source`` [3,H,W]; ``maps`` [N+1,1,H,W].

    ``rows``: for each strength its l1 (of the whole picture, and of its strip in the last one) and p(target).
    """

    source: Tensor
    pictures: Tensor
    maps: Tensor
    rows: tuple[dict[str, Any], ...]


def fan(problem: Problem, strengths: Sequence[float], vary: Any = None) -> Fan:
    """The fan of a problem of one picture, whose method has the editor ``change-map``.

    The editor's map is taken times each strength; with ``vary`` (Sources) only that region is, and the rest of the
    map stays as it is.
    """
    editor: Any = next(e for e in problem.editors if e.name == "change-map")
    one = problem.take([0])
    for other in problem.editors:
        one = other.on_problem(one)
    base, n = one.scene.change_map, len(strengths)
    if base is None:
        raise ValueError("the editor change-map gave no map")
    factors = torch.cat([_uniform(strengths, base), _strips(strengths, base)])
    region = None if vary is None else vary.map(problem.take([0]))
    maps = base * factors if region is None else union(base * (1 - region), region * factors)
    many = problem.take([0] * (n + 1))
    many = many.with_(scene=editor.lock(many.scene, maps))
    x0 = many.search.run(many).x0
    with torch.no_grad():
        pictures = as_saved(many.scene.picture(x0))
        p = many.target_of(many.scene.resources.classifier.probabilities(pictures)).tolist()
    source = as_saved(many.scene.image[:1])
    change = (pictures - source).abs().mean(1)
    place = _place(n, base.shape[-1])
    rows = tuple(
        {
            "strength": strength,
            "l1": round(change[k].mean().item(), 6),
            "l1_strip": round(change[n][:, place == k].mean().item(), 6),
            "p_target": round(p[k], 6),
        }
        for k, strength in enumerate(strengths)
    )
    return Fan(source[0], pictures, maps, rows)


def _uniform(strengths: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(strengths, device=like.device, dtype=like.dtype).view(-1, 1, 1, 1).expand(-1, *like.shape[1:])


def _strips(strengths: Sequence[float], like: Tensor) -> Tensor:
    values = torch.tensor(strengths, device=like.device, dtype=like.dtype)
    return values[_place(len(strengths), like.shape[-1]).to(like.device)].expand(1, *like.shape[1:])


def _place(n: int, width: int) -> Tensor:
    """Which of ``n`` strips each column of a picture is in."""
    return torch.arange(width) * n // width


def released(lock: Lock, grid: Sequence[Level]) -> Tensor:
    """For every place of the latents the step, counted from 1, in which it is first free, [B,1,h,w]; one more than the
    number of steps where it never is. What a map means, before anything is run."""
    n = len(grid) - 1
    locked = torch.zeros_like(lock.keep)
    for i in range(n):
        locked += (lock.keep >= lock.time(grid[i + 1], i + 1, n) - 1e-6).to(locked.dtype)
    return locked + 1
