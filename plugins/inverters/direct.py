from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from counterlens.core.problem.method_pieces import Inverter
from counterlens.core.utils.batched import batched

if TYPE_CHECKING:
    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.problem.problem import Problem


class Direct(Inverter):
    """DDIM inversion under the source's condition, and what each guided step of the source misses of it, added back
    (Direct inversion, Ju et al. 2024): exact under any guidance, without optimisation."""

    name: ClassVar[str] = "direct"
    gives: ClassVar[frozenset[str]] = frozenset({"trajectory", "exact"})
    least: float = Field(20.0, description="least PSNR of the reconstruction in dB; an image below is a failure", ge=0)

    def invert(self, problem: Problem, skip: float | None = None) -> Inversion:
        import torch

        from counterlens.core.diffusion.inversion import Inversion
        from counterlens.core.problem.inversion_tools import ddim_path, gated, means

        scene, n = problem.scene, len(problem.scene.grid) - 1
        first = self.start(n, skip)
        grid = scene.grid[first:]
        path = ddim_path(problem, grid, source=True)
        churn = (0.0,) * (n - first)
        pairs = [(i, row) for i in range(n - first) for row in range(len(scene))]
        with torch.no_grad():
            parts = [means(problem, path, churn, part, first=first) for part in batched(pairs, problem.batch)]
        mean = torch.cat(parts).unflatten(0, (n - first, len(scene)))
        residual = tuple(path[i + 1] - mean[i] for i in range(n - first))
        inversion = Inversion(path[0], grid, residual=residual, path=path)
        return gated(problem, inversion, scene.x0, self.least)
