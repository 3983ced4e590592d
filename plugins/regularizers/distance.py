"""Distances to the source: l1 and l2, of pixels or latents, of the whole image, its background or its foreground."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.plugins.regularizers.regions import Regional

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.diffusion.step import Step
    from counterlens.core.problem.view import View


class DistancePenalty(Regional):
    """A mean over the region's numbers, so that a weight means the same at every size of image and region.

    Pixels are in [-1, 1], or with ``range=unit`` in [0, 1] (as published).
    """

    power: ClassVar[int] = 1
    space: Literal["pixel", "latent"] = Field("pixel", description="where the distance is measured")
    range: Literal["signed", "unit"] = Field("signed", description="pixels count from -1 to 1, or from 0 to 1")

    def __call__(self, view: View, step: Step) -> Tensor:
        scene = view.scene
        now, source = (view.image, scene.image) if self.space == "pixel" else (view.x0, scene.x0)
        half = 0.5 if self.range == "unit" and self.space == "pixel" else 1.0
        return self.reduced(scene, (half * (now - source)).abs() ** self.power)


class L1Penalty(DistancePenalty):
    """Mean absolute difference from the source image: few pixels change."""

    name: ClassVar[str] = "l1"
    within: ClassVar[str] = "Mean absolute difference {} the change map."


class L2Penalty(DistancePenalty):
    """Mean squared difference from the source image: changes are small."""

    name: ClassVar[str] = "l2"
    within: ClassVar[str] = "Mean squared difference {} the change map."
    power: ClassVar[int] = 2
