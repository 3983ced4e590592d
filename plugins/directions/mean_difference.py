from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from counterlens.core.conditioning.directions import Direction

if TYPE_CHECKING:
    from counterlens.core.conditioning.directions import ClassPair, Move


class MeanDifference(Direction):
    """The difference of the class means of unit embeddings (DIFFusion, Chiquier et al. 2025)."""

    name: ClassVar[str] = "mean-difference"

    def fit(self, pair: ClassPair) -> Move:
        from counterlens.core.conditioning.directions import constant

        return constant(pair.delta)
