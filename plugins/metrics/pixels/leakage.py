"""What changed outside the region that may change.

Both are means over the outside alone. ``legacy`` divides by the whole picture, as PIE-Bench does: the numbers then look
better the larger the region is, PSNR by exactly -10 log10 of the outside's share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.metrics.metric import PictureMetric

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.metrics.metric import CounterfactualPair


class Outside(PictureMetric):
    """Needs a region; nan where the region is the whole picture, for then there is no outside."""

    needs: ClassVar[frozenset[str]] = frozenset({"region"})
    legacy: bool = Field(False, description="divide by the area of the whole picture, as PIE-Bench does")

    def names(self, context: Any) -> tuple[str, ...]:
        return (f"{self.name}_legacy" if self.legacy else self.name,)

    def mean_outside(self, cost: Tensor, pairs: Sequence[CounterfactualPair]) -> Tensor:
        """Mean of a cost [B,3,H,W] outside the regions, [B]; nan where a region is missing or everything."""
        import torch

        none = torch.full((1, *cost.shape[-2:]), float("nan"))
        regions = [none if pair.region is None else pair.region.float() for pair in pairs]
        kept = (1 - torch.stack(regions).to(cost)).expand_as(cost).flatten(1)
        area = kept.sum(1)
        below = torch.full_like(area, kept.shape[1]) if self.legacy else area
        mean = (kept * cost.flatten(1)).sum(1) / below
        return torch.where(area > 0, mean, torch.full_like(mean, float("nan")))


class Leakage(Outside):
    """Mean absolute difference outside the region."""

    name: ClassVar[str] = "leakage"
    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 1)

    def compare(self, source: Tensor, edited: Tensor, pairs: Sequence[CounterfactualPair], context: Any) -> Tensor:
        return self.mean_outside((edited - source).double().abs(), pairs)


class PsnrOutside(Outside):
    """Peak signal-to-noise ratio outside the region."""

    name: ClassVar[str] = "psnr_outside"
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (0, None)
    unit: ClassVar[str] = "dB"
    source: ClassVar[str] = "background PSNR of PIE-Bench, corrected"
    cap: float = Field(100.0, description="value of pictures that are equal there", gt=0)

    def compare(self, source: Tensor, edited: Tensor, pairs: Sequence[CounterfactualPair], context: Any) -> Tensor:
        from counterlens.core.images.pixels import decibels

        return decibels(self.mean_outside((edited - source).double().square(), pairs), self.cap)
