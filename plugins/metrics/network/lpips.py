"""LPIPS as a metric; the network is in core/models/lpips.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from counterlens.core.metrics.metric import PictureMetric
from counterlens.core.models import lpips as network
from counterlens.core.models.lpips import BACKBONES

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.metrics.context import Context


class Lpips(PictureMetric):
    """Learned perceptual distance; nan for pictures smaller than the backbone can see."""

    name: ClassVar[str] = "lpips"
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[tuple[float | None, float | None]] = (0, None)
    cost: ClassVar[str] = "network"
    source: ClassVar[str] = "Zhang et al. 2018, eq. 1; version 0.1 of the heads"
    net: Literal["alex", "vgg", "squeeze"] = Field("alex", description="backbone; numbers of two do not compare")
    weights: str = Field("", description="torchvision's weights of the backbone as .safetensors; empty: torch's cache")

    def names(self, context: Any) -> tuple[str, ...]:
        return ("lpips" if self.net == "alex" else f"lpips_{self.net}",)

    def missing(self, context: Context) -> str:
        return super().missing(context) or missing(self.net, self.weights, context)

    def compare(self, source: Tensor, edited: Tensor, pairs: Any, context: Context) -> Tensor:
        return distance(self.net, self.weights, source, edited, context)


def distance(net: str, given: str, x: Tensor, y: Tensor, context: Context) -> Tensor:
    """LPIPS [B] of pictures [B,3,H,W] in [0,1]; nan when they are too small."""
    import torch

    if min(x.shape[-2:]) < BACKBONES[net][3]:
        return torch.full((len(x),), float("nan"))
    path = context.path(given, f"lpips-{net}")
    model = context.once(("lpips", net, given), lambda: network.open_lpips(net, path, context.device))
    return model(x.float(), y.float())


def missing(net: str, given: str, context: Context) -> str:
    """What is missing of a backbone, in one line."""
    return network.missing(net, context.path(given, f"lpips-{net}"))
