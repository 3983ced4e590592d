from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from counterlens.core.problem.masker import Masker

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.problem.problem import Problem


class Difference(Masker):
    """Where a first pass without a map changed the picture, cut down to the least area that still flips.

    The method runs once freely; of its difference to the source the largest values are kept, and their share of the
    picture is halved in on (bisection; that flipping grows with area is not assumed, the least share that flipped is
    taken). A picture that does not flip freely keeps the whole difference.
    """

    name: ClassVar[str] = "difference"
    needs: ClassVar[frozenset[str]] = frozenset({"trajectory", "prediction"})
    rounds: int = Field(4, description="passes of the search over the area; 0 keeps the whole difference", ge=0)
    most: float = Field(0.5, description="largest share of the picture tried", gt=0, le=1)
    smooth: float = Field(0.02, description="smoothing, standard deviation in shares of the picture's side", ge=0)

    def mask(self, scene):  # type: ignore[no-untyped-def]
        raise ValueError("the difference needs the method's first pass: it is found from a problem")

    def found(self, problem: Problem) -> Tensor:
        import torch

        scene = problem.scene
        if problem.search is None:
            raise ValueError("the difference needs the method's search")
        free = problem.search.run(problem)
        with torch.no_grad():
            change = (scene.picture(free.x0).clamp(-1, 1) - scene.image).abs().amax(1, keepdim=True)
        return self._least(problem, ranked(change, self.smooth), self._reached(problem, free.x0))

    def _reached(self, problem: Problem, x0: Tensor) -> Tensor:
        """[B] bool: p(target) of the pictures is at least tau."""
        return (problem.target_of(problem.score(x0)) >= problem.tau).to(x0.device)

    def _least(self, problem: Problem, score: Tensor, flips: Tensor) -> Tensor:
        """The map of the least share that flips; bisection of each row's own bounds, all rows at once."""
        import torch

        from counterlens.core.problem.scene import locked

        low = torch.zeros(len(score), device=score.device)
        high = torch.full_like(low, self.most)
        for _ in range(self.rounds):
            middle = (low + high) / 2
            tried = problem.with_(scene=locked(problem.scene, top(score, middle)))
            reached = self._reached(tried, problem.search.run(tried).x0)
            high = torch.where(reached & flips, middle, high)
            low = torch.where(reached & flips, low, middle)
        whole = torch.where(flips, high, torch.full_like(high, self.most))
        return top(score, whole)


def ranked(change: Tensor, smooth: float) -> Tensor:
    """A difference [B,1,H,W], smoothed (in shares of a side), as the picture's ranking of its pixels."""
    from counterlens.core.images.map_ops import smoothed

    return smoothed(change, smooth * change.shape[-1])


def top(score: Tensor, share: Tensor) -> Tensor:
    """1 at the largest values of each row of ``score`` [B,1,H,W], for its own ``share`` [B] of the picture, else 0."""
    import torch

    flat = score.flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(flat.shape[1], device=flat.device).expand_as(order))
    return (rank < (share * flat.shape[1]).floor()[:, None]).to(score.dtype).view_as(score)
