from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from counterlens.core.problem.method_pieces import Search

if TYPE_CHECKING:
    from counterlens.core.problem.items import SearchResult
    from counterlens.core.problem.problem import Problem


class Once(Search):
    """One walk with the method's editors as they are."""

    name: ClassVar[str] = "once"
    needs: ClassVar[frozenset[str]] = frozenset({"trajectory", "prediction"})

    def run(self, problem: Problem) -> SearchResult:
        from counterlens.core.search.strength_search import chunks, result_of_ends, walk

        ends = [walk(part, part.invert()) for part in chunks(problem)]
        return result_of_ends(ends)
