"""Shifts on their way into the network: ``h <- h + strength·w_t·delta_t`` at one site, in some of the steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from counterlens.core.diffusion.levels import Estimate
from counterlens.core.diffusion.lock import Lock
from counterlens.core.diffusion.module_hooks import Listener
from counterlens.core.diffusion.step import Step

SCHEDULES = ("flat", "rising", "falling", "middle")


def weights_of(n: int, window: tuple[float, float] = (0.0, 1.0), schedule: str = "flat") -> Tensor:
    """[n]: the factor of every step, noisy to clean: 0 outside the ``window`` (shares of the trajectory), inside it
    one (``flat``), growing to one, falling from it, or largest in the middle."""
    low, high = window
    w = torch.zeros(n)
    inside = [i for i in range(n) if low - 1e-9 <= i / n < high - 1e-9]
    for k, i in enumerate(inside):
        at = (k + 0.5) / len(inside)
        w[i] = {"flat": 1.0, "rising": at, "falling": 1 - at, "middle": math.sin(math.pi * at)}[schedule]
    return w


@dataclass(frozen=True, eq=False)
class AddShift:
    """The editor that adds a shift; its rows are those of the scene.

    ``delta`` [T,1 or B,C,h',w'] for all T steps of a whole trajectory (one that starts later uses the last of them),
    ``strength`` [B], ``weights`` [T], ``site``. ``cap``: the shift is at most so many times as long as the activation.
    ``symmetric``: the shifted answer makes the clean image and the noise; else only the clean image, and the noise is
    that of a second question without the shift (Asyrp, Kwon et al. 2023, eq. 5). ``branch``: only this one.
    """

    delta: Tensor
    strength: Tensor
    weights: Tensor
    site: str
    cap: float | None = None
    symmetric: bool = True
    branch: str = ""
    lock: Lock | None = None

    @property
    def sites(self) -> tuple[str, ...]:
        return (self.site,)

    def index(self, step: Step) -> int:
        """Where in the whole trajectory this step is."""
        return len(self.delta) - step.n + step.i

    def idle(self, step: Step) -> bool:
        return float(self.weights[self.index(step)]) == 0 or not bool((self.strength != 0).any())

    def on_activation(self, h: Tensor, step: Step) -> Tensor:
        if self.idle(step) or (self.branch and step.branch != self.branch):
            return h
        k = self.index(step)
        move = self.strength.to(h).view(-1, 1, 1, 1) * self.weights[k].to(h) * self.delta[k].to(h)
        if self.lock is not None:
            move = self.lock.within(move, h)
        if self.cap is not None:
            move = capped(move, h, self.cap)
        return h + move

    def on_estimate(self, est: Estimate, step: Step) -> Estimate:
        if self.symmetric or self.idle(step):
            return est
        return replace(est, eps=step.ask(without=self).eps)


def capped(move: Tensor, h: Tensor, cap: float) -> Tensor:
    """``move`` [B,C,h,w], shortened where it is longer than ``cap`` times the activation."""
    limit = cap * h.flatten(1).norm(dim=1)
    share = (limit / move.flatten(1).norm(dim=1).clamp_min(1e-12)).clamp(max=1)
    return move * share.view(-1, 1, 1, 1)


class ActivationRecorder(Listener):
    """Keeps the activation at its ``sites`` in every step: ``h[site][i]`` is [B,C,h',w'], as it was first asked for.

    Of several branches it keeps the last, the conditional one. What it keeps is the network's own: put it before
    editors that shift.
    """

    def __init__(self, sites: tuple[str, ...]) -> None:
        super().__init__(self._keep, sites)
        self.h: dict[str, dict[int, Tensor]] = {site: {} for site in sites}

    def _keep(self, h: Tensor, step: Step) -> None:
        if step.branch == list(step.cond)[-1]:  # a step that is asked again was seen already
            self.h[step.site].setdefault(step.i, h.detach().float())

    def stacked(self) -> dict[str, Tensor]:
        """{site: [T,B,C,h',w']} of the steps that ran, noisy to clean."""
        return {site: torch.stack([steps[i] for i in sorted(steps)]) for site, steps in self.h.items()}


@dataclass(eq=False)
class ReplaceActivation:
    """Puts given activations in the place of the network's own: ``h[site]`` [T,B,C,h',w'] for a whole trajectory."""

    h: dict[str, Tensor]

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(self.h)

    def on_activation(self, h: Tensor, step: Step) -> Tensor:
        given = self.h[step.site]
        return given[len(given) - step.n + step.i].to(h)
