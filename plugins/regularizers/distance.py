"""Distances to the source: l1 and l2, of pixels or latents, of the whole image or of the background alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.core.pieces import Regularizer

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.network import Step
    from counterlens.core.problem import View


class Distance(Regularizer):
    """A mean over the image's numbers, so that a weight means the same at every size."""

    power: ClassVar[int] = 1
    background: ClassVar[bool] = False
    space: Literal["pixel", "latent"] = Field("pixel", description="where the distance is measured")

    def __call__(self, view: View, step: Step) -> Tensor:
        scene = view.scene
        now, source = (view.image, scene.image) if self.space == "pixel" else (view.x0, scene.x0)
        cost = (now - source).abs() ** self.power
        if not self.background:
            return cost.flatten(1).mean(1)
        kept = _kept(scene.change_map, cost).expand_as(cost)
        return (kept * cost).flatten(1).sum(1) / kept.flatten(1).sum(1).clamp_min(1e-6)


def _kept(change: Tensor | None, like: Tensor) -> Tensor:
    """What may not change, [B,1,h,w] in [0,1], at the size of ``like``; a mean over the region, not the image."""
    import torch.nn.functional as F

    if change is None:
        raise ValueError("a background regularizer needs a change map: the plan should have said so")
    return 1 - F.interpolate(change, like.shape[-2:], mode="area")


class L1(Distance):
    """Mean absolute difference from the source image: few pixels change."""

    name: ClassVar[str] = "l1"


class L2(Distance):
    """Mean squared difference from the source image: changes are small."""

    name: ClassVar[str] = "l2"
    power: ClassVar[int] = 2


class BackgroundL1(Distance):
    """Mean absolute difference outside the change map."""

    name: ClassVar[str] = "background-l1"
    needs: ClassVar[frozenset[str]] = frozenset({"map"})
    background: ClassVar[bool] = True


class BackgroundL2(Distance):
    """Mean squared difference outside the change map."""

    name: ClassVar[str] = "background-l2"
    needs: ClassVar[frozenset[str]] = frozenset({"map"})
    power: ClassVar[int] = 2
    background: ClassVar[bool] = True
