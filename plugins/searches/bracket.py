from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from counterlens.core.problem.method_pieces import Search

if TYPE_CHECKING:
    from counterlens.core.problem.items import SearchResult
    from counterlens.core.problem.problem import Problem


class Bracket(Search):
    """The least strength that reaches tau, by doubling from far below and then halving what is between; strengths
    multiply editors' and guidance's own.
    """

    name: ClassVar[str] = "bracket"
    needs: ClassVar[frozenset[str]] = frozenset({"trajectory", "prediction"})
    ahead: ClassVar[int] = 4
    starts: tuple[float, ...] = Field(
        (0.2, 0.0), description="shares of the trajectory left out, tried in this order", min_length=1
    )
    first: float = Field(0.5, description="strength tried first; it doubles until tau is reached", gt=0)
    most: float = Field(4.0, description="largest strength tried", gt=0)
    refine: int = Field(2, description="tries between the least strength that reaches tau and what falls short", ge=0)
    through: Literal["estimate", "network"] = Field(
        "estimate", description="differentiate guidance at the clean estimate, or through the network as well"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Bracket:
        if self.most < self.first:
            raise ValueError("most is the largest strength: give most >= first")
        return self

    def run(self, problem: Problem) -> SearchResult:
        from counterlens.core.search.bracket import BracketSettings, search_bracket

        return search_bracket(problem, BracketSettings(**self.model_dump()))
