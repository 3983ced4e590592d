from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.core.problem.masker import Masker

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.problem.scene import Scene


class Strips(Masker):
    """A fan of strengths in one picture: strips side by side, each with its own strength of change."""

    name: ClassVar[str] = "strips"
    strengths: tuple[float, ...] = Field((0.2, 0.4, 0.6, 0.8, 1.0), description="of the strips, in order", min_length=1)
    along: Literal["x", "y"] = Field("x", description="from left to right, or from top to bottom")

    def mask(self, scene: Scene) -> Tensor:
        import torch

        height, width = scene.image.shape[-2:]
        side = width if self.along == "x" else height
        place = torch.arange(side, device=scene.image.device) * len(self.strengths) // side
        values = torch.tensor(self.strengths, device=scene.image.device).clamp(0, 1)[place]
        line = values[None, :] if self.along == "x" else values[:, None]
        return line.expand(height, width).expand(len(scene), 1, height, width).to(scene.image.dtype)
