"""Guidance whose unit is the network's own uncertainty: Newton steps on the target's log-odds, in standard deviations.

At a noise level ``x = a·x0 + s·eps`` the network's clean estimate is the mean of the clean images that ``x`` may stand
for, and their covariance is ``C = (s²/a)·d x0/dx`` (Tweedie's formula of second order; Meng et al. 2021, Boys et al.
2024). With ``g`` the gradient of the target's log-odds at the estimate, Bayes' rule moves it along ``C·g``: where the
network holds a change possible, and hardly where it does not. ``need/(g'Cg)`` of it raises the log-odds by ``need`` to
first order, and is ``need/sqrt(g'Cg)`` standard deviations long. Neither knows units of pixels, latents or logits, nor
how many classes or steps there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from counterlens.core.classifiers.log_odds import log_odds
from counterlens.core.diffusion.levels import Estimate
from counterlens.core.diffusion.step import Step
from counterlens.core.problem.problem import Measures
from counterlens.core.problem.scene import Scene
from counterlens.core.problem.view import View
from counterlens.core.search.guidance_step import total

LEAST = 1e-20  # a variance below it is none: the row stays where it is


@dataclass(eq=False)
class PosteriorStep:
    """An editor: every clean estimate is moved until the classifier says the target as firmly as ``goal`` [B] asks.

    ``limit``: standard deviations that a step may move for each unit of noise that it takes away, so that it means the
    same under any number of steps. ``energies``: what pulls beside the log-odds, or instead of them.
    ``moved`` [B]: all moves of a row so far, root of the sum of squares, in standard deviations.
    A row whose gradient is not finite stays so to its end, and its neighbours do not notice.
    """

    scene: Scene
    goal: Tensor
    limit: float
    energies: Sequence[Measures] = ()
    moved: Tensor = field(init=False)
    asked: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.moved = torch.zeros(len(self.scene), device=self.scene.x0.device)

    def on_latent(self, x: Tensor, step: Step) -> Tensor:
        self.asked = x.detach().requires_grad_()
        return self.asked

    def on_estimate(self, est: Estimate, step: Step) -> Estimate:
        x0 = est.x0.detach().requires_grad_()
        with torch.enable_grad():
            view = View(x0, self.scene, draw=step.i)
            margin = log_odds(view.logits, self.scene.target)
            need = self.goal - margin.detach()
            if bool((need <= 0).all()):
                return replace(est, x0=x0.detach(), eps=est.eps.detach())
            (rise,) = torch.autograd.grad(margin.sum(), x0, retain_graph=bool(self.energies))
            pull = rise
            if self.energies:
                (down,) = torch.autograd.grad(total(self.energies, view, step).sum(), x0)
                pull = -down
        self._count(step)
        move = self._move(est, step, need.clamp_min(0), rise, pull)
        return replace(est, x0=x0.detach() + move, eps=est.eps.detach())

    def _move(self, est: Estimate, step: Step, need: Tensor, rise: Tensor, pull: Tensor) -> Tensor:
        """The move [B,C,h,w] along C·pull that raises the log-odds by ``need`` [B], or as far as the limit lets it."""
        if self.scene.lock is not None:
            pull = self.scene.lock.gradient(pull, step)
        (along,) = torch.autograd.grad(est.x0, self.asked, pull)
        a, s = float(step.now.a), float(step.now.s)
        along = along * (s**2 / max(a, 1e-4))  # without any signal the estimate hardly depends on x
        if self.scene.lock is not None:
            along = self.scene.lock.gradient(along, step)
        spread = _inner(along, pull).clamp_min(0).sqrt()  # of the estimate along the pull, times its own length
        slope = _inner(along, rise)
        longest = self.limit * (s - float(step.to.s))
        length = torch.where(slope > LEAST, need * spread / slope.clamp_min(LEAST), torch.full_like(need, torch.inf))
        length = torch.where(need > 0, length.clamp(max=longest), torch.zeros_like(need))
        length = torch.where(spread > LEAST**0.5, length, torch.zeros_like(length))
        self.moved = (self.moved**2 + length**2).sqrt()
        return (length / spread.clamp_min(LEAST**0.5)).view(-1, 1, 1, 1) * along

    def _count(self, step: Step) -> None:
        meter = self.scene.net.meter
        for row in step.rows:
            meter.gradient[row] += 1
        meter.differentiated(step.rows, len(step.cond), again=self.scene.net.checkpointed)


def _inner(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).flatten(1).sum(1)
