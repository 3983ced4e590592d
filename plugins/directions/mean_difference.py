from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from counterlens.core.pieces import Direction

if TYPE_CHECKING:
    from counterlens.core.directions import Move, Pair


class MeanDifference(Direction):
    """The difference of the class means of unit embeddings (DIFFusion, Chiquier et al. 2025)."""

    name: ClassVar[str] = "mean-difference"

    def fit(self, pair: Pair) -> Move:
        from counterlens.core.directions import constant

        return constant(pair.delta)
