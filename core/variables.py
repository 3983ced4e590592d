"""What an optimisation through the sampler may move: the start, every step's conditions.

Each image has its own leaf tensors, so that torch's optimisers leave an image alone that has no gradient: batches,
order and neighbours do not matter, and an image that is done simply gets none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from counterlens.core.lock import Lock
from counterlens.core.network import Step
from counterlens.core.types import Condition, Inversion, Scene


@dataclass(eq=False)
class Variables:
    """Of one image, all zero at first: ``start`` [1,C,h,w] is added to the trajectory's start, ``cond[branch]``
    [n,…] to the condition of step 0 … n-1. Every one is fp32; absent ones are not moved."""

    start: Tensor | None
    cond: Mapping[str, Tensor]
    x: Tensor  # [1,C,h,w], the trajectory's own start

    def groups(self, start: float, condition: float, null: float) -> list[dict[str, object]]:
        """Parameter groups for a torch optimiser, each with its learning rate."""
        rates = {branch: null if branch == "null" else condition for branch in self.cond}
        own = [] if self.start is None else [{"params": [self.start], "lr": start}]
        return [*own, *({"params": [self.cond[branch]], "lr": rates[branch]} for branch in self.cond)]

    def tensors(self) -> list[Tensor]:
        return [*([] if self.start is None else [self.start]), *self.cond.values()]

    @torch.no_grad()
    def keep_norm(self) -> None:
        """The moved start back to the norm of the start: a sample of a high-dimensional Gaussian has one length."""
        if self.start is not None:
            z = self.x + self.start
            self.start.copy_(z * (self.x.norm() / z.norm().clamp_min(1e-12)) - self.x)


def variables_of(scene: Scene, inversion: Inversion, free: Sequence[str]) -> list[Variables]:
    """One set an image. ``free``: of ``start``, ``conditions`` (all branches but the empty one) and ``nulls``."""
    n = len(inversion.grid) - 1
    branches = [
        branch
        for branch, value in scene.cond.items()
        if value.is_floating_point() and value[0].numel() and ("nulls" if branch == "null" else "conditions") in free
    ]

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, device=inversion.x.device, dtype=torch.float32, requires_grad=True)

    return [
        Variables(
            zeros(1, *inversion.x.shape[1:]) if "start" in free else None,
            {branch: zeros(n, *scene.cond[branch].shape[1:]) for branch in branches},
            inversion.x[row : row + 1],
        )
        for row in range(len(scene))
    ]


@dataclass(eq=False)
class Moved:
    """The variables of a batch as an editor of one walk; a lock limits the start to where it may change."""

    start: Tensor | None
    cond: dict[str, Tensor]  # branch -> [n,B,…]
    begun: bool = field(default=False, init=False)

    @classmethod
    def of(cls, variables: Sequence[Variables], lock: Lock | None) -> Moved:
        starts = [one.start for one in variables if one.start is not None]
        start = torch.cat(starts) if starts else None
        if start is not None and lock is not None:
            start = lock.limit(start)
        branches = list(variables[0].cond)
        return cls(start, {branch: torch.stack([one.cond[branch] for one in variables], 1) for branch in branches})

    def on_latent(self, x: Tensor, step: Step) -> Tensor:
        if self.begun or self.start is None:
            return x
        self.begun = True
        return x + self.start

    def on_condition(self, cond: Condition, step: Step) -> Condition:
        return {**cond, **{branch: cond[branch] + delta[step.i] for branch, delta in self.cond.items()}}
