from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from counterlens.core.conditioning.directions import Direction

if TYPE_CHECKING:
    from counterlens.core.conditioning.directions import ClassPair, Move


class PcaCleaned(Direction):
    """The mean difference without the directions in which images vary most within their class."""

    name: ClassVar[str] = "pca-cleaned"
    k: int = Field(5, description="principal directions of the within-class variation that are taken out", ge=0)

    def fit(self, pair: ClassPair) -> Move:
        import torch

        from counterlens.core.conditioning.directions import constant

        within = torch.cat([part - part.mean(0) for part in (pair.source, pair.target)])
        _, _, v = torch.linalg.svd(within, full_matrices=False)
        nuisance = v[: self.k]
        return constant(pair.delta - (nuisance @ pair.delta) @ nuisance)
