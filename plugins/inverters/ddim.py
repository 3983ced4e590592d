from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.core.problem.method_pieces import Inverter

if TYPE_CHECKING:
    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.problem.problem import Problem


class Ddim(Inverter):
    """The deterministic trajectory walked backwards (Song et al. 2021): the same loop on the grid reversed."""

    name: ClassVar[str] = "ddim"
    under: Literal["editing", "source"] = Field(
        "editing", description="the conditions and guidance of the edit, or the source's own condition without guidance"
    )

    def invert(self, problem: Problem, skip: float | None = None) -> Inversion:
        from counterlens.core.diffusion.inversion import Inversion
        from counterlens.core.problem.inversion_tools import ddim_path

        scene = problem.scene
        grid = scene.grid[self.start(len(scene.grid) - 1, skip) :]
        path = ddim_path(problem, grid, self.under == "source")
        return Inversion(path[0], grid, path=path)
