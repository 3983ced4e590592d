from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from counterlens.core.conditioning.directions import Direction

if TYPE_CHECKING:
    from counterlens.core.conditioning.directions import ClassPair, Move


class Lda(Direction):
    """Fisher's direction with shrunken covariance: what tells the classes apart, given how images vary within them.

    The within-class covariance is shrunk as Ledoit and Wolf (2004) estimate.
    """

    name: ClassVar[str] = "lda"

    def fit(self, pair: ClassPair) -> Move:
        import torch
        from sklearn.covariance import ledoit_wolf

        from counterlens.core.conditioning.directions import constant

        within = torch.cat([part - part.mean(0) for part in (pair.source, pair.target)])
        covariance, _ = ledoit_wolf(within.double().numpy(), assume_centered=True)
        w = torch.linalg.solve(torch.from_numpy(covariance), pair.delta.double())
        return constant(pair.along(w.float()))
