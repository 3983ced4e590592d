from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from counterlens.core.problem.method_pieces import Inverter

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.diffusion.levels import Level
    from counterlens.core.problem.problem import Problem
    from counterlens.core.problem.scene import Scene


class NullText(Inverter):
    """DDIM inversion under the source's prompt, and an empty text for each step, optimised so that the guided walk
    comes back (Null-text inversion, Mokady et al. 2023, algorithm 1). Images are optimised together, the network is
    frozen, the conditional answer is shared by a step's updates, and an image that has converged leaves the batch.
    """

    name: ClassVar[str] = "null-text"
    needs: ClassVar[frozenset[str]] = frozenset({"text", "null-branch"})
    updates: int = Field(10, description="most updates a step", ge=1)
    rate: float = Field(0.01, description="Adam's rate in the first step; it falls by a hundredth of it a step", gt=0)
    tolerance: float = Field(
        1e-5, description="an image is done with a step when its mean square error is below …", ge=0
    )
    slope: float = Field(2e-5, description="… this tolerance, and so much more for each step done", ge=0)
    least: float = Field(20.0, description="least PSNR of the reconstruction in dB; an image below is a failure", ge=0)

    def invert(self, problem: Problem, skip: float | None = None) -> Inversion:
        import torch

        from counterlens.core.diffusion.inversion import Inversion
        from counterlens.core.problem.inversion_tools import ddim_path, gated

        scene = problem.scene
        grid = scene.grid[self.start(len(scene.grid) - 1, skip) :]
        path = ddim_path(problem, grid, source=True)
        if "null" not in scene.cond:  # no guidance: the walk under the prompt alone comes back by itself
            from counterlens.core.problem.inversion_tools import walked_back

            inversion = Inversion(path[0], grid, path=path)
            return gated(problem, inversion, walked_back(problem, inversion), self.least)
        x, null, found = path[0], scene.cond["null"].detach(), []
        for i, (now, to) in enumerate(pairwise(grid)):
            null, x = self._step(problem, (i, now, to), x, null, path[i + 1])
            found.append(null)
        with torch.no_grad():
            return gated(problem, Inversion(path[0], grid, path=path, null=tuple(found)), x / grid[-1].a, self.least)

    def _step(
        self, problem: Problem, at: tuple[int, Level, Level], x: Tensor, null: Tensor, goal: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The empty texts [B,T,D] of one step, and where the guided step goes under them, [B,C,h,w]."""
        import torch

        from counterlens.core.problem.inversion_tools import conditional, note

        scene, i = problem.scene, at[0]
        with torch.no_grad():
            text = _ask(scene, at, x, conditional(scene))
        note(scene, 1)
        texts = [row[None].clone().requires_grad_() for row in null]
        optimiser = torch.optim.Adam(texts, lr=self.rate * max(0.01, 1 - i / 100))
        rows = list(range(len(scene)))
        for _ in range(self.updates):
            part = scene.take(rows)
            with torch.enable_grad():
                there = _guided(problem, part, at, x[rows], text[rows], torch.cat([texts[row] for row in rows]))
                loss = (there - goal[rows]).square().flatten(1).mean(1)
                loss.sum().backward()
            note(part, 1, differentiated=True)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)  # Adam leaves alone what has no gradient: images that are done
            values, enough = loss.tolist(), self.tolerance + self.slope * i
            rows = [row for row, value in zip(rows, values, strict=True) if not value < enough]
            if not rows:
                break
        null = torch.cat(texts).detach()
        with torch.no_grad():
            x = _guided(problem, scene, at, x, text, null)
        note(scene, 1)
        return null, x


def _guided(
    problem: Problem, scene: Scene, at: tuple[int, Level, Level], x: Tensor, text: Tensor, null: Tensor
) -> Tensor:
    """The guided step from ``x`` under these empty texts, with the conditional answer ``text`` already known."""
    from counterlens.core.diffusion.step import Step

    i, now, to = at
    step = Step(
        i=i, n=len(problem.scene.grid) - 1, now=now, to=to, x=x, cond=scene.cond, rows=scene.rows, extra=scene.extra
    )
    empty = _ask(scene, at, x, {"null": null})
    answer = problem.combiner({"null": empty, list(scene.cond)[-1]: text}, step)
    return scene.net.read(answer, None, step).at(to)


def _ask(scene: Scene, at: tuple[int, Level, Level], x: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
    """The network's answer [B,C,h,w] under one branch."""
    from counterlens.core.diffusion.step import Step

    i, now, to = at
    step = Step(i=i, n=len(scene.grid) - 1, now=now, to=to, x=x, cond=cond, rows=scene.rows, extra=scene.extra)
    (answer,) = scene.net.branches(step)[0].values()
    return answer
