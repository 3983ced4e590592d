"""How near the pictures are as signals: PSNR and SSIM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.metrics.metric import PictureMetric

if TYPE_CHECKING:
    from torch import Tensor

MARGIN = 5  # half of the window


class Psnr(PictureMetric):
    """Peak signal-to-noise ratio of the whole picture: -10 log10 of the mean squared difference."""

    name: ClassVar[str] = "psnr"
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (0, None)
    unit: ClassVar[str] = "dB"
    cap: float = Field(100.0, description="value of equal pictures, whose ratio is infinite", gt=0)

    def compare(self, source: Tensor, edited: Tensor, pairs: Any, context: Any) -> Tensor:
        from counterlens.core.images.pixels import decibels

        return decibels((edited - source).double().square().flatten(1).mean(1), self.cap)


class Ssim(PictureMetric):
    """Structural similarity, Gaussian window of 11 pixels (σ = 1.5), mean over channels; nan below 11 pixels."""

    name: ClassVar[str] = "ssim"
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (-1, 1)
    source: ClassVar[str] = "Wang et al. 2004; torchmetrics"

    def compare(self, source: Tensor, edited: Tensor, pairs: Any, context: Any) -> Tensor:
        import torch
        from torchmetrics.functional.image import structural_similarity_index_measure

        if min(source.shape[-2:]) < 2 * MARGIN + 1:
            return torch.full((len(source),), float("nan"))
        _, whole = structural_similarity_index_measure(
            edited.float(), source.float(), sigma=1.5, data_range=1.0, reduction="none", return_full_image=True
        )
        # where the window leaves the picture torchmetrics mirrors it; the paper and scikit-image leave that out
        return whole[..., MARGIN:-MARGIN, MARGIN:-MARGIN].flatten(1).mean(1)
