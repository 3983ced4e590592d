from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.core.h_space.window_options import WindowOptions
from counterlens.core.problem.method_pieces import Search

if TYPE_CHECKING:
    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.h_space.shifts import ShiftBank
    from counterlens.core.problem.items import SearchResult
    from counterlens.core.problem.problem import Problem


def usual(sites: Iterable[str]) -> str:
    """Half way through the decoder, where the picture's parts are decided and its pixels are not yet."""
    ups = sum(name.startswith("up.") for name in sites)
    return f"up.{ups // 2}" if ups > 1 else "mid.after"


class HSpaceSearch(WindowOptions, Search):
    """The least shift of the activations at one site that reaches tau.

    Without directions the shift is the gradient of the target's log-odds there, taken anew where one straight step does
    not reach (counterfactual direction). With a bank of directions (``--directions FILE``) those whose predicted change
    of the log-odds is largest are tried, in both senses. Strengths are lengths over that of the activation itself.
    """

    name: ClassVar[str] = "h-space"
    strength_unit: ClassVar[str] = "lengths of the activation itself"
    needs: ClassVar[frozenset[str]] = frozenset({"trajectory", "prediction", "mid-block", "labels", "gradient"})
    site: str = Field(
        "", description="where: mid.after, up.N, …; if empty that of the directions, or the middle up block"
    )
    use: Literal["rank", "span"] = Field(
        "rank", description="of a bank: its best directions one by one, or the gradient within their span"
    )
    tries: int = Field(3, description="directions of a bank that are tried, best prediction first", ge=1)
    protect: tuple[str, ...] = Field((), description="classes whose logits are kept: their gradients are projected out")
    ridge: float = Field(1e-3, description="of that projection", ge=0)
    through: Literal["trajectory", "step"] = Field(
        "trajectory", description="gradient through all steps, or of each step's own clean image (a third of the cost)"
    )
    rounds: int = Field(4, description="gradients taken for an image that does not flip", ge=1)
    reach: float = Field(0.15, description="how far one gradient is trusted, over the length of the activation", gt=0)
    cap: float = Field(0.6, description="the longest shift, over the length of the activation", gt=0)
    refine: int = Field(
        3, description="halvings between the longest shift that does not flip and the least that does", ge=0
    )
    form: Literal["symmetric", "asymmetric"] = Field("symmetric", description="asymmetric: Asyrp, two questions a step")

    def check(self, asked: Sequence[SourceImage]) -> None:
        from counterlens.core.h_space.shifts import load_shifts

        if self.directions:
            load_shifts(self.directions)

    def run(self, problem: Problem) -> SearchResult:
        import torch

        from counterlens.core.problem.items import SearchResult
        from counterlens.core.search.strength_search import chunks
        from counterlens.plugins.searches.h_space_climb import Climb, ClimbSettings, ClimbState, alike

        bank = self._bank(problem)
        site = bank.space.site if bank else self.site or usual(problem.scene.net.sites)
        settings, rows = self.settings(ClimbSettings), list[ClimbState]()
        for batch in chunks(problem):
            found: dict[int, ClimbState] = {}
            for at in alike(batch):  # images whose change maps leave out other steps go apart
                found |= zip(at, Climb(settings, batch.take(at), site, bank).run(), strict=True)
            rows += [found[k] for k in range(len(batch.scene))]
            problem.tick(len(rows), len(problem.scene))
        return SearchResult(
            torch.stack([row.x0 for row in rows]),
            tuple(row.strength for row in rows),
            tuple(tuple(row.tried) for row in rows),
            tuple(tuple(row.ends) for row in rows) if problem.keep else (),
        )

    def _bank(self, problem: Problem) -> ShiftBank | None:
        from counterlens.core.diffusion.sites import check_site
        from counterlens.core.h_space.shifts import load_shifts

        scene = problem.scene
        if self.directions:
            return load_shifts(self.directions).check(scene.resources.pipeline, scene.grid, self.site, self.resample)
        check_site(self.site or usual(scene.net.sites), scene.net.sites, scene.resources.pipeline.uri)
        return None
