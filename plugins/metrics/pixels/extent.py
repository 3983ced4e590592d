"""Where a counterfactual differs: changed area, sparsity, connected components, total variation of the difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.metrics.metric import PictureMetric

if TYPE_CHECKING:
    from torch import Tensor


class Changed(PictureMetric):
    """Pixels that changed: by more than ``threshold`` in any channel."""

    threshold: float = Field(0.1, description="least change of a channel in [0,1] that counts", ge=0, lt=1)

    def changed(self, source: Tensor, edited: Tensor) -> Tensor:
        """[B,H,W] of booleans."""
        return (edited - source).abs().amax(1) > self.threshold


class ChangedArea(Changed):
    """Share of the pixels that changed."""

    name: ClassVar[str] = "changed_area"
    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 1)

    def compare(self, source: Tensor, edited: Tensor, pairs: Any, context: Any) -> Tensor:
        return self.changed(source, edited).double().flatten(1).mean(1)


class Components(Changed):
    """Number of separate patches of changed pixels (neighbours across edges and corners); 0 when nothing changed."""

    name: ClassVar[str] = "components"
    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[tuple[float | None, float | None]] = (0, None)
    unit: ClassVar[str] = "patches"

    def compare(self, source: Tensor, edited: Tensor, pairs: Any, context: Any) -> Tensor:
        import numpy as np
        import torch
        from scipy.ndimage import label

        masks = self.changed(source, edited).cpu().numpy()
        return torch.tensor([label(mask, np.ones((3, 3)))[1] for mask in masks], dtype=torch.float64)


class Sparsity(PictureMetric):
    """1 when a single pixel changed, 0 when all changed alike; nan when nothing changed."""

    name: ClassVar[str] = "sparsity"
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 1)
    source: ClassVar[str] = "latent sparsity of PEAL, taken on pixels"

    def compare(self, source: Tensor, edited: Tensor, pairs: Any, context: Any) -> Tensor:
        d = (edited - source).double().abs().sum(1).flatten(1)  # [B,HW]
        most = d.amax(1)
        return 1 - (d.sum(1) - most) / ((d.shape[1] - 1) * most)  # 0/0 is nan


class TotalVariation(PictureMetric):
    """Mean absolute step between neighbouring pixels of the difference: high for speckles, low for patches."""

    name: ClassVar[str] = "total_variation"
    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 4)
    source: ClassVar[str] = "anisotropic total variation, Rudin et al. 1992"

    def compare(self, source: Tensor, edited: Tensor, pairs: Any, context: Any) -> Tensor:
        d = (edited - source).double()
        across, down = d.diff(dim=-1).abs(), d.diff(dim=-2).abs()
        return across.flatten(1).mean(1) + down.flatten(1).mean(1)
