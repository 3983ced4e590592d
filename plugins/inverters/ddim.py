from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from counterlens.core.pieces import Inverter

if TYPE_CHECKING:
    from counterlens.core.problem import Problem
    from counterlens.core.types import Inversion


class Ddim(Inverter):
    """The deterministic trajectory walked backwards (Song et al. 2021): the same loop on the grid reversed."""

    name: ClassVar[str] = "ddim"

    def invert(self, problem: Problem, skip: float | None = None) -> Inversion:
        import torch

        from counterlens.core.loop import denoise
        from counterlens.core.types import Inversion

        scene = problem.scene
        grid = scene.grid[self.start(len(scene.grid) - 1, skip) :]
        x = grid[-1].a * scene.x0  # the clean end of the grid; its rest of noise, if any, is taken as zero
        with torch.no_grad():
            frames = denoise(
                scene.net, x, grid[::-1], scene.cond, combine=problem.combiner, extra=scene.extra, rows=scene.rows
            )
            path = (x, *(frame.x for frame in frames))[::-1]
        return Inversion(path[0], grid, path=path)
