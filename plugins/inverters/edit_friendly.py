from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from counterlens.core.pieces import Inverter

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.problem import Problem
    from counterlens.core.types import Inversion


class EditFriendly(Inverter):
    """Edit-friendly DDPM inversion (Huberman-Spiegelglas et al. 2024): independent noise, exact by residuals.

    Every level gets its own noise (eq. 7); what the model's step misses of the next level is stored and added
    back (eq. 8). The residual of the last step is kept too, so that the reconstruction is exact. The questions of
    all timesteps are independent: they are asked in a few large batches, and only for the steps that will run.
    """

    name: ClassVar[str] = "edit-friendly"
    gives: ClassVar[frozenset[str]] = frozenset({"trajectory", "exact", "stochastic"})
    eta: float = Field(1.0, description="share of DDPM's noise that is taken from the image", ge=0, le=1)

    def invert(self, problem: Problem, skip: float | None = None) -> Inversion:
        import torch

        from counterlens.core.problem import churns, noise_for
        from counterlens.core.types import Inversion

        scene = problem.scene
        n = len(scene.grid) - 1
        start = self.start(n, skip)
        grid, churn = scene.grid[start:], churns(scene.grid[start:], self.eta)
        noises = noise_for(scene, n)[start:]  # a level's noise is the same at every start
        path = [level.noise(scene.x0, z) for level, z in zip(grid[:-1], noises, strict=True)]
        path.append(grid[-1].a * scene.x0)
        with torch.no_grad():
            means = self._means(problem, path, churn, start)
        residual = tuple(x - mean for x, mean in zip(path[1:], means, strict=True))
        return Inversion(path[0], grid, churn, residual, tuple(path))

    def _means(self, problem: Problem, path: list[Tensor], churn: tuple[float, ...], start: int) -> list[Tensor]:
        """Where the model's own step goes from each point of the path: one question a (step, image)."""
        import torch

        from counterlens.core.levels import rows
        from counterlens.core.network import Step

        scene, n, size = problem.scene, len(churn), len(path[0])
        flat = [(i, row) for i in range(n) for row in range(size)]
        means = []
        for k in range(0, len(flat), max(1, problem.batch)):
            part = flat[k : k + max(1, problem.batch)]
            at = scene.take([row for _, row in part])
            now, to = (rows([scene.grid[start + i + d] for i, _ in part], scene.x0.device) for d in (0, 1))
            x = torch.stack([path[i][row] for i, row in part])
            step = Step(0, n, now, to, x, at.cond, at.rows, at.extra)
            kept = torch.tensor([churn[i] for i, _ in part], device=x.device).view(-1, 1, 1, 1)
            means.append(scene.net.estimate(step, (), problem.combiner).at(to, kept))
        return list(torch.cat(means).unflatten(0, (n, size)))
