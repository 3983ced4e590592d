from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from counterlens.core.pieces import Search

if TYPE_CHECKING:
    from counterlens.core.problem import Problem
    from counterlens.core.types import Found


class Once(Search):
    """One walk with the method's editors as they are."""

    name: ClassVar[str] = "once"
    needs: ClassVar[frozenset[str]] = frozenset({"trajectory", "prediction"})

    def run(self, problem: Problem) -> Found:
        from counterlens.core.sweeping import chunks, found, walk

        ends = [walk(part, part.invert()) for part in chunks(problem)]
        return found(ends)
