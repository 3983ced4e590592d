"""What a distance to the source is taken over: the whole picture, or the part inside or outside the change map."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.core.problem.method_pieces import Regularizer

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.problem.scene import Scene

WHOLE, BACKGROUND, FOREGROUND = "whole", "background", "foreground"


class Regional(Regularizer):
    """A regularizer of the whole image, of what may not change (1 - c), or of what may (c).

    ``within`` is what ``regional`` says of the regularizer of a part.
    """

    within: ClassVar[str] = ""
    region: ClassVar[str] = WHOLE
    area: Literal["map", "image"] = Field(
        "map", description="masked distances are divided by the map's area, or (as published) by the whole image's"
    )

    def reduced(self, scene: Scene, cost: Tensor) -> Tensor:
        """A cost [B,C,h,w] as one number an image, [B]: its mean over the region."""
        if self.region == WHOLE:
            return cost.flatten(1).mean(1)
        m = self.mask_of(scene, cost).expand_as(cost).flatten(1)
        total = (m * cost.flatten(1)).sum(1)
        return total / (m.shape[1] if self.area == "image" else m.sum(1).clamp_min(1e-6))

    def mask_of(self, scene: Scene, like: Tensor) -> Tensor:
        """The region [B,1,h,w] in [0,1] at the size of ``like``."""
        import torch.nn.functional as F

        if scene.change_map is None:
            raise ValueError(f"{self.name} needs a change map: the plan should have said so")
        c = F.interpolate(scene.change_map, like.shape[-2:], mode="area").to(like.dtype)
        return c if self.region == FOREGROUND else 1 - c


@cache
def regional(whole: type[Regional], region: str) -> type[Regional]:
    """The regularizer ``REGION-NAME``: what ``whole`` measures, of the background or the foreground alone."""
    where = "inside" if region == FOREGROUND else "outside"
    own = {
        "__doc__": whole.within.format(where),
        "__module__": whole.__module__,
        "name": f"{region}-{whole.name}",
        "needs": frozenset({"map"}),
        "region": region,
    }
    return type(f"{region.title()}{whole.__name__}", (whole,), own)
