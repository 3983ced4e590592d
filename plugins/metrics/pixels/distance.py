"""Distances of pictures in [0,1], each over the numbers of one image, never over the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from counterlens.core.metrics.metric import PictureMetric

if TYPE_CHECKING:
    from torch import Tensor


class Distance(PictureMetric):
    """Lower is nearer to the source."""

    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 1)


class L1(Distance):
    """Mean absolute difference of the pictures in [0,1]."""

    name: ClassVar[str] = "l1"

    def compare(self, source: Tensor, edited: Tensor, pairs: Any, context: Any) -> Tensor:
        return (edited - source).double().abs().flatten(1).mean(1)


class L2(Distance):
    """Root of the mean squared difference of the pictures in [0,1]."""

    name: ClassVar[str] = "l2"

    def compare(self, source: Tensor, edited: Tensor, pairs: Any, context: Any) -> Tensor:
        return (edited - source).double().square().flatten(1).mean(1).sqrt()


class LInf(Distance):
    """Greatest absolute difference of any number of the picture."""

    name: ClassVar[str] = "linf"

    def compare(self, source: Tensor, edited: Tensor, pairs: Any, context: Any) -> Tensor:
        return (edited - source).double().abs().flatten(1).amax(1)
