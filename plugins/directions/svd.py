from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from counterlens.core.conditioning.directions import Direction

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.conditioning.directions import ClassPair, Move


class Svd(Direction):
    """A projection on the span of the target class: each image has its own step.

    One step arrives at the (unit) projection on the first ``rank`` right singular vectors of the target's embeddings,
    which are not centred.
    """

    name: ClassVar[str] = "svd"
    rank: int = Field(20, description="singular vectors that span the target class", ge=1)

    def fit(self, pair: ClassPair) -> Move:
        import torch
        from torch.nn.functional import normalize

        _, _, v = torch.linalg.svd(pair.target, full_matrices=False)
        basis = v[: self.rank]

        def move(e: Tensor) -> Tensor:
            span = basis.to(e)
            return normalize(e @ span.T @ span, dim=1) - e

        return move
