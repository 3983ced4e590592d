"""Activations of many images, in batches: of generated samples, and of real images along their inverted trajectory.

Every sample has its own generators, keyed by (seed, number, use): a sample does not depend on its batch, the noise of
its start is that of no other sample's steps, and the global random state is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from counterlens.core.diffusion.levels import Level, churns
from counterlens.core.diffusion.loop import denoise
from counterlens.core.h_space.injection import ActivationRecorder
from counterlens.core.problem.items import Item
from counterlens.core.problem.problem import Problem
from counterlens.core.problem.scene import Resources, Scene
from counterlens.core.utils.seeds import generator

if TYPE_CHECKING:
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.models.pipeline import Pipeline
    from counterlens.core.problem.method_pieces import Combiner, Inverter


@dataclass(frozen=True, eq=False)
class Recorded:
    """A batch with its activations: ``h[site]`` [T,B,C,h',w'], ``x0`` [B,C,h,w], ``path`` [T+1,B,C,h,w] of its states
    (``path[i]`` is what step i was asked about), ``picture`` [B,3,H,W] in about [-1,1], ``numbers`` its samples."""

    numbers: tuple[int, ...]
    h: Mapping[str, Tensor]
    x0: Tensor
    path: Tensor
    picture: Tensor
    scene: Scene = field(repr=False)


def draw(seed: int, numbers: Sequence[int], use: str, shape: Sequence[int]) -> Tensor:
    """[B,*shape] of normal numbers, a generator a sample."""
    return torch.stack([torch.randn(tuple(shape), generator=generator(seed, n, use)) for n in numbers])


@dataclass(frozen=True)
class Noises:
    """The noises of every step, drawn when they are used: ``noises[i]`` is [B,C,h,w]."""

    seed: int
    numbers: tuple[int, ...]
    like: Tensor

    def __getitem__(self, i: int) -> Tensor:
        return draw(self.seed, self.numbers, f"step {i}", self.like.shape[1:]).to(self.like)


def scene_without_target(
    pipeline: Pipeline,
    classifier: Classifier | None,
    image: Tensor,
    grid: Sequence[Level],
    seeds: Sequence[int],
    combiner: Combiner,
    prompts: Sequence[str] = (),
) -> Scene:
    """A scene of images [B,3,H,W] in [-1,1] about which nothing is asked: for inverting and recording alone."""
    n = len(image)
    prompts = list(prompts) or [""] * n
    image = image.to(pipeline.device)
    with torch.no_grad():
        x0 = pipeline.encode(image)
        cond, extra = pipeline.condition(image, prompts, combiner.branches(pipeline.branches))
    nothing = torch.zeros(n, dtype=torch.long, device=pipeline.device)
    return Scene(
        items=tuple(Item(str(s), np.zeros((1, 1, 3), np.uint8), str(s), "") for s in seeds),
        image=image,
        x0=x0,
        cond=cond,
        extra=extra,
        source=nothing,
        target=nothing,
        seeds=tuple(seeds),
        rows=tuple(range(n)),
        grid=tuple(grid),
        net=pipeline.network(),
        resources=Resources(pipeline, classifier),  # type: ignore[arg-type]
        strength=torch.ones(n, device=pipeline.device),
    )


@torch.no_grad()
def sampled(
    scene: Scene, sites: Sequence[str], numbers: Sequence[int], seed: int, combiner: Any, eta: float = 0.0
) -> Recorded:
    """One generated sample for each row of ``scene`` (its conditions are used, its images are not)."""
    numbers, grid = tuple(numbers), scene.grid
    first = grid[0]
    x = draw(seed, numbers, "start", scene.x0.shape[1:]).to(scene.x0) * math.hypot(float(first.a), float(first.s))
    recorder = ActivationRecorder(tuple(sites))
    frames = denoise(
        scene.net,
        x,
        grid,
        scene.cond,
        [recorder],
        combine=combiner,
        churn=churns(grid, eta),
        noise=Noises(seed, numbers, x) if eta else None,  # type: ignore[arg-type]
        extra=scene.extra,
        rows=scene.rows,
    )
    path = [x, *(frame.x for frame in frames)]
    x0 = path[-1] / float(grid[-1].a)
    return Recorded(
        numbers=numbers,
        h=recorder.stacked(),
        x0=x0,
        path=torch.stack(path),
        picture=scene.picture(x0),
        scene=replace(scene, x0=x0),
    )


@torch.no_grad()
def inverted(problem: Problem, sites: Sequence[str], numbers: Sequence[int] = ()) -> Recorded:
    """The activations of real images on the way back from their inversion: those that an edit meets.

    The trajectory has to be whole (an inverter with skip=0).
    """
    recorder = ActivationRecorder(tuple(sites))
    inversion = problem.invert(0.0)
    path = [inversion.x, *(frame.x for frame in problem.frames(inversion, [recorder]))]
    x0 = path[-1] / float(inversion.grid[-1].a)
    scene = problem.scene
    return Recorded(
        numbers=tuple(numbers or scene.rows),
        h=recorder.stacked(),
        x0=x0,
        path=torch.stack(path),
        picture=scene.picture(x0),
        scene=scene,
    )


def problem_of(scene: Scene, inverter: Inverter, combiner: Combiner) -> Problem:
    """A problem without an edit."""
    return Problem(scene, inverter, combiner, batch=len(scene))
