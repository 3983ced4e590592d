"""Perceptual distances to the source, whole or by the change map: LPIPS, and CLIP's patches."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from counterlens.core.errors import MissingError
from counterlens.plugins.regularizers.regions import WHOLE, Regional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.diffusion.step import Step
    from counterlens.core.problem.view import View


class LpipsPenalty(Regional):
    """LPIPS to the source (Zhang et al. 2018): it should look the same."""

    name: ClassVar[str] = "lpips"
    within: ClassVar[str] = "LPIPS to the source {} the change map."
    net: Literal["alex", "vgg", "squeeze"] = Field("alex", description="backbone")
    weights: str = Field("", description="torchvision's weights of the backbone as .safetensors; empty: torch's cache")

    def check(self, asked: Sequence[SourceImage]) -> None:
        from counterlens.core.models.lpips import missing

        if why := missing(self.net, self._path()):
            raise MissingError(why)

    def __call__(self, view: View, step: Step) -> Tensor:
        from counterlens.core.images.pixels import unit
        from counterlens.core.models.lpips import open_lpips

        opened = partial(open_lpips, self.net, self._path(), str(view.x0.device))
        lpips = view.scene.resources.memo.once(("lpips", self.net, self.weights), opened)
        return lpips(view.shown, unit(view.scene.image), lambda cost: self._layer(view, cost))

    def _layer(self, view: View, cost: Tensor) -> Tensor:
        """A layer's map as one number. As published, the mask enters squared, and the whole layer's area divides."""
        if self.region != WHOLE and self.area == "image":
            return (self.mask_of(view.scene, cost) ** 2 * cost).mean((1, 2, 3))
        return self.reduced(view.scene, cost)

    def _path(self) -> Path | None:
        return Path(self.weights).expanduser() if self.weights else None


class ClipPenalty(Regional):
    """1 - cos of CLIP's mean patch to the source's (projected): it should be about the same things."""

    name: ClassVar[str] = "clip"
    within: ClassVar[str] = "1 - cos of CLIP's mean patch {} the change map to the source's."
    checkpoint: str = Field(description="folder of a CLIP model in transformers' layout")

    def check(self, asked: Sequence[SourceImage]) -> None:
        from counterlens.core.models.clip import check_clip

        check_clip(self.checkpoint)

    def __call__(self, view: View, step: Step) -> Tensor:
        from counterlens.core.images.pixels import unit
        from counterlens.core.models.clip import opened

        scene = view.scene
        clip = opened(self.checkpoint, scene.resources.memo, str(view.x0.device))
        now, source = (self._mean(scene, clip, clip.patches(x)) for x in (view.shown, unit(scene.image.to(view.x0))))
        return 1 - (now * source).sum(1)

    def _mean(self, scene: Any, clip: Any, patches: Tensor) -> Tensor:
        """[B,D] of unit length of patches [B,C,h,w]; what divides does not matter to a direction."""
        mean = patches.flatten(2).mean(2)
        if self.region != WHOLE:
            m = self.mask_of(scene, patches)
            mean = (m * patches).flatten(2).sum(2) / m.flatten(2).sum(2).clamp_min(1e-6)
            if self.area == "image":
                mean = (m * patches).flatten(2).mean(2)
        return clip.projected(mean)
