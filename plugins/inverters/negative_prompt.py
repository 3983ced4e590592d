from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from counterlens.core.problem.method_pieces import Inverter

if TYPE_CHECKING:
    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.problem.problem import Problem


class NegativePrompt(Inverter):
    """DDIM inversion under the source's prompt, which then also is the empty condition: guidance by an edit starts at
    the source (Negative-prompt inversion, Miyake et al. 2023). No optimisation; exact but for DDIM's own error."""

    name: ClassVar[str] = "negative-prompt"
    needs: ClassVar[frozenset[str]] = frozenset({"text", "null-branch"})
    least: float = Field(20.0, description="least PSNR of the reconstruction in dB; an image below is a failure", ge=0)

    def invert(self, problem: Problem, skip: float | None = None) -> Inversion:
        from counterlens.core.diffusion.inversion import Inversion
        from counterlens.core.problem.inversion_tools import ddim_path, gated, walked_back

        scene = problem.scene
        grid = scene.grid[self.start(len(scene.grid) - 1, skip) :]
        path = ddim_path(problem, grid, source=True)
        null = (list(scene.cond.values())[-1],) * (len(grid) - 1) if "null" in scene.cond else None
        inversion = Inversion(path[0], grid, path=path, null=null)
        return gated(problem, inversion, walked_back(problem, inversion), self.least)
