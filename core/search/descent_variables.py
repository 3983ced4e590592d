"""What an optimisation through the sampler may move: the start, every step's conditions.

Each image has its own leaf tensors, so that torch's optimisers leave an image alone that has no gradient: batches,
order and neighbours do not matter, and an image that is done simply gets none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.diffusion.lock import Lock
    from counterlens.core.diffusion.step import Condition, Step
    from counterlens.core.problem.scene import Scene


Optimiser = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]


@dataclass(frozen=True)
class DescentSettings:
    """The settings of a descent; see the search ``descent`` for what they mean."""

    optimiser: Optimiser
    free: tuple[str, ...] = ("start", "conditions", "nulls")
    rates: tuple[float, float, float] = (1e-3, 1e-2, 1e-2)
    iterations: int = 20
    last: int = 3
    weights: str = "linear"
    schedule: str = "constant"
    gradient: str = "full"
    truncated: int = 0
    checkpoint: bool = True
    keep_norm: bool = True
    best: str = "reached"
    stop: float | None = None
    patience: int = 0
    after: int | None = None


@dataclass
class DescentState:
    """One image on its way: its variables, and its best iterate so far."""

    variables: Variables
    x0: Tensor | None = None
    loss: float = math.inf
    p: float = -1.0
    number: int = 0
    least: float = math.inf
    stale: int = 0
    since: int = -1  # iterates since the first that reached tau
    failure: str = ""
    done: bool = False
    tried: list[dict[str, float | None]] = field(default_factory=list)
    ends: list[Tensor] = field(default_factory=list)

    def offer(
        self, number: int, x0: Tensor, loss: float, p: float, skip: float, tau: float, how: DescentSettings
    ) -> None:
        """One more iterate; the best is the one of least loss, among those that reach tau if there are any."""
        self.tried.append({"skip": skip, "strength": float(number), "p_target": round(p, 6), "loss": round(loss, 6)})
        reached = how.best == "reached"
        better = (reached and p >= tau, -loss) > (reached and self.p >= tau, -self.loss)
        falls = self.least == math.inf or loss < self.least - 0.01 * abs(self.least)
        self.stale = 0 if falls else self.stale + 1
        self.least = min(self.least, loss)
        if better:
            self.x0, self.loss, self.p, self.number = x0.detach().clone(), loss, p, number
        self.since += self.since >= 0 or p >= tau
        enough = how.after is not None and self.since >= how.after
        self.done = enough or (how.stop is not None and loss < how.stop) or (0 < how.patience <= self.stale)


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
class VariableShift:
    """The variables of a batch as an editor of one walk; a lock limits the start to where it may change."""

    start: Tensor | None
    cond: dict[str, Tensor]  # branch -> [n,B,…]
    begun: bool = field(default=False, init=False)

    @classmethod
    def of(cls, variables: Sequence[Variables], lock: Lock | None) -> VariableShift:
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
