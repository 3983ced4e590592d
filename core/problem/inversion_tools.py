"""What inverters share: the deterministic path of an image, questions about many of its points, and the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from counterlens.core.diffusion.inversion import NullConditions
from counterlens.core.diffusion.levels import rows
from counterlens.core.diffusion.loop import denoise
from counterlens.core.diffusion.step import Step, only
from counterlens.core.errors import RunFailed
from counterlens.core.images.pixels import as_saved, psnr

if TYPE_CHECKING:
    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.diffusion.levels import Level, Number
    from counterlens.core.diffusion.step import Condition
    from counterlens.core.problem.problem import Problem
    from counterlens.core.problem.scene import Scene


def ddim_path(problem: Problem, grid: Sequence[Level], source: bool = False) -> tuple[Tensor, ...]:
    """The states [B,C,h,w] of the deterministic trajectory at every level of ``grid``, noisiest first.

    ``source``: asked under the source's own condition alone, without guidance.
    """
    scene = problem.scene
    cond, combine = (conditional(scene), only) if source else (scene.cond, problem.combiner)
    x = grid[-1].a * scene.x0  # the clean end of the grid; its rest of noise, if any, is taken as zero
    with torch.no_grad():
        frames = denoise(scene.net, x, grid[::-1], cond, combine=combine, extra=scene.extra, rows=scene.rows)
        return (x, *(frame.x for frame in frames))[::-1]


def conditional(scene: Scene) -> Condition:
    """The source's own condition alone."""
    branch = list(scene.cond)[-1]
    return {branch: scene.cond[branch]}


def means(
    problem: Problem,
    path: Sequence[Tensor],
    churn: Sequence[Number],
    part: Sequence[tuple[int, int]],
    branch: str = "",
    first: int = 0,
) -> Tensor:
    """Where the model's own step goes from these (step, row) points of the path: one network call.

    ``branch``: asked under it alone; empty: under all of the scene's, with its combiner. ``first``: the step of the
    scene's grid at which ``path`` begins.
    """
    scene = problem.scene
    at = scene.take([row for _, row in part])
    now, to = (rows([scene.grid[first + i + d] for i, _ in part], scene.x0.device) for d in (0, 1))
    x = torch.stack([path[i][row] for i, row in part])
    cond = {branch: at.cond[branch]} if branch else at.cond
    step = Step(i=0, n=len(churn), now=now, to=to, x=x, cond=cond, rows=at.rows, extra=at.extra)
    kept = torch.tensor([churn[i] for i, _ in part], device=x.device).view(-1, 1, 1, 1)
    return scene.net.estimate(step, (), only if branch else problem.combiner).at(to, kept)


def walked_back(problem: Problem, inversion: Inversion) -> Tensor:
    """x0 [B,C,h,w] at the end of an inversion's own trajectory, without editors: the reconstruction."""
    scene, x = problem.scene, inversion.x
    nulls = [NullConditions(inversion.null)] if inversion.null is not None and "null" in scene.cond else []
    with torch.no_grad():
        for frame in denoise(
            scene.net,
            inversion.x,
            inversion.grid,
            scene.cond,
            nulls,
            combine=problem.combiner,
            churn=inversion.churn,
            residual=inversion.residual,
            extra=scene.extra,
            rows=scene.rows,
        ):
            x = frame.x
    return x / inversion.grid[-1].a


def gated(problem: Problem, inversion: Inversion, x0: Tensor, least: float) -> Inversion:
    """The inversion with the PSNR of its reconstruction ``x0`` as a saved picture; RunFailed below ``least`` dB."""
    scene = problem.scene
    with torch.no_grad():
        reached = psnr(as_saved(scene.resources.pipeline.decode(x0)), as_saved(scene.image))
    low = [f"{item.name} ({p:.1f} dB)" for item, p in zip(scene.items, reached.tolist(), strict=True) if p < least]
    if low:
        raise RunFailed(
            f"cannot be inverted well, PSNR below {least:g} dB: {', '.join(low)}; use more --steps, "
            "--inverter direct, a prompt that says what is there, or least=0"
        )
    return replace(inversion, psnr=reached)


def note(scene: Any, evaluations: int, differentiated: bool = False) -> None:
    """Count questions that were asked beside ``Network.estimate``."""
    scene.net.meter.asked(scene.rows, evaluations)
    if differentiated:
        scene.net.meter.differentiated(scene.rows, evaluations, again=False)
