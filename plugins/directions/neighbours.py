from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from counterlens.core.conditioning.directions import Direction

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.conditioning.directions import ClassPair, Move


class Neighbours(Direction):
    """A pull toward the nearest embeddings of the target class: each image has its own step.

    One step arrives at the (unit) mean of its ``k`` nearest neighbours in the target class.
    """

    name: ClassVar[str] = "neighbours"
    k: int = Field(10, description="neighbours", ge=1)

    def fit(self, pair: ClassPair) -> Move:
        from torch.nn.functional import normalize

        target = pair.target

        def move(e: Tensor) -> Tensor:
            known = target.to(e)
            nearest = (e @ known.T).topk(min(self.k, len(known)), dim=1).indices  # cosine: all are unit
            return normalize(known[nearest].mean(1), dim=1) - e

        return move
