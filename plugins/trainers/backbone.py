from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from counterlens.core.training.trainer import Trainer

if TYPE_CHECKING:
    from counterlens.core.training.trainer import TrainJob

Kind = Literal["kandinsky22", "stable-diffusion", "ddpm"]


class Backbone(Trainer):
    """Diffusion pipelines of your own field, from scratch, on your own images alone.

    ``kandinsky22`` is a latent U-Net under an image embedding (what ``arithmetic`` edits), ``stable-diffusion`` one
    under text with the names of the classes as prompts; both stand on an autoencoder and a small CLIP that are trained
    first. ``ddpm`` works on pixels under no condition. Weights are averaged; some groups of images are held out for the
    losses. Sheets of samples and curves are drawn into OUT/progress while it runs. A second call goes on where the
    first was stopped. At the end, generated images are compared with the nearest training image, to see whether
    any was learned by heart. Afterwards: --model OUT.
    """

    name: ClassVar[str] = "backbone"
    file: ClassVar[str] = "pipelines"
    networks: ClassVar[str] = "none"
    size: Literal["tiny", "small", "base"] = Field("small", description="of the networks: 32, 64 or 256 pixels")
    pixels: int = Field(0, description="side of the images, if not the size's own (a multiple of 32)", ge=0, le=1024)
    pipelines: tuple[Kind, ...] = Field(
        ("kandinsky22", "stable-diffusion", "ddpm"), description="what to train, in this order", min_length=1
    )
    effort: float = Field(1.0, description="times the size's usual number of steps", gt=0)
    batch: float = Field(1.0, description="times the size's usual number of images a step", gt=0)
    flip: bool = Field(False, description="mirrored images are as good as the images")
    held: float = Field(0.06, description="share of the groups of images that are held out", gt=0, lt=1)
    looks: int = Field(8, description="sheets of samples of each part while it is trained", ge=1)

    def train(self, job: TrainJob) -> Mapping[str, Any]:
        from counterlens.plugins.trainers.backbones.plan import BackbonePlan
        from counterlens.plugins.trainers.backbones.run import Scratch

        return Scratch(job, self.settings(BackbonePlan, out=job.out, device=job.device)).run()

    def plan(self, job: TrainJob) -> Mapping[str, Any]:
        from counterlens.plugins.trainers.backbones.estimate import estimate
        from counterlens.plugins.trainers.backbones.plan import BackbonePlan

        return estimate(self.settings(BackbonePlan, out=job.out, device=job.device))
