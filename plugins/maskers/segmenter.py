"""What segmenters share: points, boxes, or words whose attention gives the points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from counterlens.core.problem.masker import Masker
from counterlens.plugins.maskers.cross_attention import FORM
from counterlens.plugins.maskers.point_prompts import looked

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from counterlens.core.problem.scene import Scene

Points = list[list[float]]


class Segmenter(Masker):
    """Segments of a network that is asked at points and in boxes."""

    checkpoint: str
    points: tuple[float, ...] = Field(
        (), description="x,y of points inside, in pixels of what the pipeline sees: x,y,…"
    )
    outside: tuple[float, ...] = Field((), description="x,y of points outside")
    boxes: tuple[float, ...] = Field((), description="left,top,right,bottom of boxes; each gives a segment")
    words: str = Field("", description="points by the network's attention to these words ({source}, {target}, any)")
    count: int = Field(5, description="words: points drawn", ge=1)
    least: float = Field(0.35, description="words: points only where the attention is above", ge=0, lt=1)
    squash: str = Field(
        "sqrt_0.3", description="words: how the attention is sharpened, as in cross-attention", pattern=FORM
    )
    hint: bool = Field(True, description="words: the attention is the mask prompt too")

    @model_validator(mode="after")
    def _counted(self) -> Segmenter:
        if len(self.points) % 2 or len(self.outside) % 2 or len(self.boxes) % 4:
            raise ValueError("points and outside are pairs x,y; boxes are fours left,top,right,bottom")
        return self

    def wanted(self) -> frozenset[str]:
        return self.needs | (frozenset({"cross-attention", "text"}) if self.words else frozenset())

    def opened(self, device: str) -> Any:
        """The network of the checkpoint; asked once a run."""
        raise NotImplementedError

    def segment(self, network: Any, image: np.ndarray, inside: Points, hint: Tensor | None) -> Tensor:
        """The union [H,W] of the segment at the points and those in the boxes, in an image uint8 [H,W,3]."""
        raise NotImplementedError

    def mask(self, scene: Scene) -> Tensor:
        import torch

        from counterlens.core.images.pixels import to_pixels

        network, given = self._network(scene), grouped(self.points, 2)
        hints, points = [None] * len(scene), [given] * len(scene)
        if self.words:
            planes, drawn = looked(scene, self.words, self.squash, self.count, self.least)
            points = [given + more for more in drawn]
            hints = list(planes[:, 0]) if self.hint else hints
        with torch.no_grad():
            rows = zip(scene.image, points, hints, strict=True)
            found = [self.segment(network, to_pixels(image), inside, hint) for image, inside, hint in rows]
        return torch.stack(found)[:, None].to(scene.image)

    def _network(self, scene: Scene) -> Any:
        device = str(scene.image.device)
        return scene.resources.memo.once((self.name, self.checkpoint), lambda: self.opened(device))


def grouped(numbers: tuple[float, ...], size: int) -> Points:
    """(1, 2, 3, 4) in twos: [[1, 2], [3, 4]]."""
    return [list(numbers[k : k + size]) for k in range(0, len(numbers), size)]
