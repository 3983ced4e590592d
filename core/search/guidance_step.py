"""Classifier guidance through the clean estimate, as an editor that a search puts behind the method's own.

Bayes' rule for the clean image, ``E[x0|x,y] = E[x0|x] + Cov[x0|x]·grad log p(y|x0)`` with ``Cov ~ s²·1`` (the
unit-variance case of Dhariwal & Nichol 2021, eq. 10, read at the estimate). The gradient is the steepest ascent
where distance is root mean square, so that a strength means the same at every image size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from counterlens.core.diffusion.levels import Estimate
from counterlens.core.diffusion.step import Step
from counterlens.core.problem.problem import Measures
from counterlens.core.problem.scene import Scene
from counterlens.core.problem.view import View


@dataclass(frozen=True, eq=False)
class GuidanceStep:
    """``x0 <- x0 - strength·s²·D·grad(energies)``, ``D`` the numbers in one latent.

    ``through`` = ``estimate`` differentiates at the clean estimate; ``network`` through the network's answer to
    ``x`` (one more backward pass a step; the estimate's own error is then part of the gradient).
    A row whose gradient is not finite stays so to its end, and its neighbours do not notice.
    """

    scene: Scene
    energies: Sequence[Measures]
    strength: Tensor  # [B]
    through: str = "estimate"

    def on_latent(self, x: Tensor, step: Step) -> Tensor:
        return x.detach().requires_grad_() if self.through == "network" else x

    def on_estimate(self, est: Estimate, step: Step) -> Estimate:
        with torch.enable_grad():
            x0 = est.x0 if self.through == "network" else est.x0.detach().requires_grad_()
            energy = total(self.energies, View(x0, self.scene, draw=step.i), step)
            (g,) = torch.autograd.grad(energy.sum(), step.x if self.through == "network" else x0)
        for row in step.rows:
            self.scene.net.meter.gradient[row] += 1
        move = self.strength.view(-1, 1, 1, 1) * float(step.level.s) ** 2 * g[0].numel() * g
        if self.scene.lock is not None:
            move = self.scene.lock.gradient(move, step)
        return replace(est, x0=est.x0.detach() - move, eps=est.eps.detach())


def total(energies: Sequence[Measures], view: View, step: Step) -> Tensor:
    """The weighted sum of energies, [B]."""
    terms = [energy.weight * energy(view, step) for energy in energies]
    return torch.stack(terms).sum(0)
