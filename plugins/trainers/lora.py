from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.errors import UsageError
from counterlens.core.training.trainer import Trainer

if TYPE_CHECKING:
    from counterlens.core.training.trainer import TrainJob


class Lora(Trainer):
    """A LoRA adapter of the pipeline's U-Net for your images: low-rank additions to its attention layers (PEFT).

    Latents and conditions are encoded once. The loss is the network's own (Ho et al. 2020, eq. 14, in its
    parametrisation); conditions are dropped for a share of the images, since classifier-free guidance needs the empty
    one. The averaged weights of the best held-out loss are kept. A second call goes on where the first was stopped;
    with several GPUs: torchrun --nproc-per-node N -m counterlens train lora DATA …  Afterwards: --adapter OUT.
    """

    name: ClassVar[str] = "lora"
    needs: ClassVar[frozenset[str]] = frozenset({"attention", "null-branch"})
    networks: ClassVar[str] = "model"
    file: ClassVar[str] = "lora"
    rank: int = Field(4, description="of the additions", ge=1)
    alpha: int = Field(8, description="the additions count alpha/rank times", gt=0)
    steps: int = Field(2000, description="of the optimiser", ge=1)
    batch: int = Field(8, description="images a step, on each device", ge=1)
    lr: float = Field(4e-4, description="learning rate", gt=0)
    dropout: float = Field(0.1, description="share of images that learn without their condition", ge=0, lt=1)
    clip: float = Field(1.0, description="largest norm of the gradient", gt=0)
    decay: float = Field(0.99, description="of the averaged weights", ge=0, lt=1)
    every: int = Field(100, description="steps between held-out losses", ge=1)
    held: float = Field(0.1, description="share of the groups of images that are held out", gt=0, lt=1)
    prompt: str = Field("a photo of a {}", description="for text pipelines; {} is the class")
    checkpoint: bool = Field(False, description="compute activations twice to save memory")

    def train(self, job: TrainJob) -> Mapping[str, Any]:
        if job.out.exists():
            raise UsageError(f"{job.out} is there already: choose another --out, or remove it")
        from counterlens.plugins.trainers.fitting.latents import encode
        from counterlens.plugins.trainers.fitting.lora import Adaptation, LoraSettings

        return Adaptation(job, self.settings(LoraSettings), encode(job, self.held, self.prompt)).run()
