from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.problem.method_pieces import Search

if TYPE_CHECKING:
    from counterlens.core.problem.items import SearchResult
    from counterlens.core.problem.problem import Measures, Problem


class Newton(Search):
    """One walk in which every clean estimate is moved just far enough that the classifier says the target, along what
    the network itself holds possible (its posterior covariance, one pass back through it a step).

    No strength is given: it is found, and recorded as a length in standard deviations of the network's own uncertainty.
    """

    name: ClassVar[str] = "newton"
    needs: ClassVar[frozenset[str]] = frozenset({"trajectory", "prediction", "pull", "labels", "gradient"})
    ahead: ClassVar[int] = 4
    strength_unit: ClassVar[str] = "standard deviations of the network's own uncertainty"
    starts: tuple[float, ...] = Field(
        (0.5, 0.3, 0.0),
        description="shares of the trajectory left out, tried in this order until one reaches tau",
        min_length=1,
    )
    firmness: float = Field(
        0.7, description="log-odds aimed at, over those with which the classifier says the source's class", ge=0
    )
    margin: float = Field(10.0, description="… and at least so many times less doubt than tau allows", ge=1)
    limit: float = Field(
        80.0, description="standard deviations that a step may move, for each unit of noise that it takes away", gt=0
    )

    def run(self, problem: Problem) -> SearchResult:
        from counterlens.core.search.newton import NewtonSettings, search_newton

        return search_newton(
            problem,
            NewtonSettings(
                starts=self.starts,
                firmness=self.firmness,
                margin=self.margin,
                limit=self.limit,
                energies=self.energies(problem),
            ),
        )

    def energies(self, problem: Problem) -> tuple[Measures, ...]:
        """What pulls; none where that is the target's class alone, whose gradient is that of the log-odds."""
        guidance: Sequence[Any] = problem.guidance
        plain = [g for g in guidance if g.name == "target" and g == type(g)(weight=g.weight, loss=g.loss)]
        if len(plain) == len(problem.energies):
            return ()
        return problem.energies
