"""How far a counterfactual obeys its change map: what was kept, the seam, and whether more map means more change.

The published pair of numbers for maps is CAM and DAM. With its free scale and offset, DAM is an ordinary least-squares
residual: ``DAM = ||M - mean(M)||·sqrt(1 - CAM²)``. It says nothing beside CAM and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from counterlens.core.metrics.metric import PictureMetric

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.metrics.metric import CounterfactualPair


class OfMap(PictureMetric):
    """One number out of a picture's change map ``c`` and the size of its change ``d``, each [H,W]."""

    needs: ClassVar[frozenset[str]] = frozenset({"region"})
    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 1)

    def compare(self, source: Tensor, edited: Tensor, pairs: Sequence[CounterfactualPair], context: Any) -> Tensor:
        import torch

        change = (edited - source).double().abs()
        none = torch.tensor(float("nan"), dtype=torch.float64)
        values = [
            none if pair.region is None else self.value(pair.region[0].to(d), d)
            for pair, d in zip(pairs, change, strict=True)
        ]
        return torch.stack([value.cpu() for value in values])

    def value(self, c: Tensor, d: Tensor) -> Tensor:
        """``c`` [H,W] in [0,1], ``d`` [3,H,W] absolute change -> a number; nan where it is not defined."""
        raise NotImplementedError


class KeptMax(OfMap):
    """Largest change of a pixel whose change map is 0: 0 when the promise was kept."""

    name: ClassVar[str] = "kept_max"

    def value(self, c: Tensor, d: Tensor) -> Tensor:
        kept = d[:, c == 0]
        return kept.max() if kept.numel() else d.new_tensor(float("nan"))


class KeptMean(OfMap):
    """Mean change of the pixels whose change map is 0."""

    name: ClassVar[str] = "kept_mean"

    def value(self, c: Tensor, d: Tensor) -> Tensor:
        return d[:, c == 0].mean()  # of nothing: nan


class Seam(OfMap):
    """Step of the change across the map's edge over its mean inside: 0 fades out, 1 is cut off, above 1 stands out."""

    name: ClassVar[str] = "seam"
    bounds: ClassVar[tuple[float | None, float | None]] = (0, None)

    def value(self, c: Tensor, d: Tensor) -> Tensor:
        import torch

        inside, size = c > 0, d.mean(0)
        steps = [
            (size.diff(dim=dim).abs())[
                inside.narrow(dim, 1, inside.shape[dim] - 1) ^ inside.narrow(dim, 0, inside.shape[dim] - 1)
            ]
            for dim in (0, 1)
        ]
        return torch.cat(steps).mean() / size[inside].mean()  # no edge, or nothing changed: nan


class DoseSlope(OfMap):
    """Change gained from map 0 to map 1, by least squares over the pixels; nan for a map of one value."""

    name: ClassVar[str] = "dose_slope"
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (None, None)

    def value(self, c: Tensor, d: Tensor) -> Tensor:
        x, y = c - c.mean(), d.mean(0)
        return (x * (y - y.mean())).sum() / x.square().sum()


class Cam(OfMap):
    """Correlation of change map and change over the pixels; here of one picture, and by absolute difference."""

    name: ClassVar[str] = "cam"
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (-1, 1)
    source: ClassVar[str] = "correlation adherence of Differential Diffusion, there a mean LPIPS map of 1000 pictures"

    def value(self, c: Tensor, d: Tensor) -> Tensor:
        x, y = c - c.mean(), d.mean(0)
        y = y - y.mean()
        return (x * y).sum() / (x.square().sum() * y.square().sum()).sqrt()
