from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.core.problem.method_pieces import Inverter
from counterlens.core.utils.batched import batched

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.problem.problem import Problem


class EditFriendly(Inverter):
    """Edit-friendly DDPM inversion (Huberman-Spiegelglas et al. 2024): independent noise, exact by residuals.

    Every level gets its own noise (eq. 7); what the model's step misses of the next level is stored and added
    back (eq. 8). The residual of the last step is kept too, so that the reconstruction is exact. The questions of
    all timesteps are independent: they are asked in a few large batches, only for the steps that will run, and a
    step once asked serves every start.
    """

    name: ClassVar[str] = "edit-friendly"
    gives: ClassVar[frozenset[str]] = frozenset({"trajectory", "exact", "stochastic"})
    nested: ClassVar[bool] = True
    eta: float = Field(1.0, description="share of DDPM's noise that is taken from the image", ge=0, le=1)
    under: Literal["editing", "source", "null"] = Field(
        "editing",
        description="what the network is asked under: the conditions and guidance of the edit, so that strength 0 is "
        "the identity; the source's own condition alone; or the empty one alone (one question a step each)",
    )

    def wanted(self) -> frozenset[str]:
        return self.needs | {"null-branch"} if self.under == "null" else self.needs

    def invert(self, problem: Problem, skip: float | None = None) -> Inversion:
        import torch

        from counterlens.core.diffusion.inversion import Inversion
        from counterlens.core.diffusion.levels import churns
        from counterlens.core.problem.scene import noise_for

        scene = problem.scene
        n = len(scene.grid) - 1
        start = self.start(n, skip)
        grid, churn = scene.grid[start:], churns(scene.grid, self.eta)
        noises = noise_for(scene, n)  # a level's noise is the same at every start
        path = [level.noise(scene.x0, z) for level, z in zip(scene.grid[:-1], noises, strict=True)]
        path.append(scene.grid[-1].a * scene.x0)
        with torch.no_grad():
            residual = self._residuals(problem, path, churn, start)
        return Inversion(x=path[start], grid=grid, churn=churn[start:], residual=residual, path=tuple(path[start:]))

    def _residuals(
        self, problem: Problem, path: list[Tensor], churn: tuple[float, ...], start: int
    ) -> tuple[Tensor, ...]:
        """What the model's own step misses of each next point: one question a (step, image), asked once."""
        import torch

        from counterlens.core.problem.inversion_tools import means

        branch = {"editing": "", "source": list(problem.scene.cond)[-1], "null": "null"}[self.under]
        rows, kept = problem.scene.rows, problem.inversions.steps
        wanted = [(i, row) for i in range(start, len(churn)) for row in range(len(rows))]
        new = [(i, row) for i, row in wanted if (self, i, rows[row]) not in kept]
        for part in batched(new, problem.batch):
            for (i, row), mean in zip(part, means(problem, path, churn, part, branch), strict=True):
                kept[self, i, rows[row]] = path[i + 1][row] - mean
        steps = range(start, len(churn))
        return tuple(torch.stack([kept[self, i, row] for row in rows]) for i in steps)
