from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.core.problem.method_pieces import Search

if TYPE_CHECKING:
    from counterlens.core.problem.items import SearchResult
    from counterlens.core.problem.problem import Problem


class Sweep(Search):
    """The least strength whose target probability reaches tau; strengths multiply editors' and guidance's own.

    Tau, not one half: an image that only just crosses the boundary is often one that no second classifier confirms.
    """

    name: ClassVar[str] = "sweep"
    needs: ClassVar[frozenset[str]] = frozenset({"trajectory", "prediction"})
    strengths: tuple[float, ...] = Field((0.25, 0.5, 1.0, 2.0, 4.0), description="tried in this order", min_length=1)
    skips: tuple[float, ...] = Field(
        (), description="shares of the trajectory left out, tried in this order; the inverter's own if empty"
    )
    together: int = Field(1, description="rungs of one image in the same batch", ge=1)
    stop: bool = Field(True, description="leave an image that is decided; false tries every rung and keeps the same")
    through: Literal["estimate", "network"] = Field(
        "estimate", description="differentiate guidance at the clean estimate, or through the network as well"
    )

    def run(self, problem: Problem) -> SearchResult:
        from counterlens.core.search.strength_search import LadderStep, search_ladder

        skips = self.skips or (problem.inverter.skip,)
        ladder = [LadderStep(skip, strength) for skip in skips for strength in self.strengths]
        return search_ladder(problem, ladder, self.together, self.through, self.stop)
