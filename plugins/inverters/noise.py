from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from counterlens.core.problem.method_pieces import Inverter

if TYPE_CHECKING:
    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.problem.problem import Problem


class Noise(Inverter):
    """The image carried to a noise level by fresh noise (SDEdit, Meng et al. 2022): realistic, not exact."""

    name: ClassVar[str] = "noise"

    def invert(self, problem: Problem, skip: float | None = None) -> Inversion:
        from counterlens.core.diffusion.inversion import Inversion
        from counterlens.core.problem.scene import noise_for

        scene = problem.scene
        grid = scene.grid[self.start(len(scene.grid) - 1, skip) :]
        (eps,) = noise_for(scene)
        return Inversion(grid[0].noise(scene.x0, eps), grid)
