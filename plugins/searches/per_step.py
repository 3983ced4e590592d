from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.core.problem.method_pieces import Search

if TYPE_CHECKING:
    from counterlens.core.problem.items import SearchResult
    from counterlens.core.problem.problem import Problem


class PerStep(Search):
    """One walk with guidance at every step, at one strength."""

    name: ClassVar[str] = "per-step"
    needs: ClassVar[frozenset[str]] = frozenset({"trajectory", "prediction", "pull"})
    strength: float = Field(1.0, description="factor of the guidance's gradient; 0 is the reconstruction", ge=0)
    through: Literal["estimate", "network"] = Field(
        "estimate", description="differentiate at the clean estimate, or through the network as well"
    )

    def run(self, problem: Problem) -> SearchResult:
        import torch

        from counterlens.core.search.strength_search import chunks, result_of_ends, walk

        ends = []
        for part in chunks(problem):
            at = part.with_(scene=part.scene.at(torch.full((len(part.scene),), self.strength)))
            ends.append(walk(at, at.invert(), self.through))
        return result_of_ends(ends, self.strength)
