"""A loaded pipeline as the engine sees it, whatever the model family: a codec, conditions, a network, a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from counterlens.core.diffusion.costs import CostMeter
from counterlens.core.diffusion.levels import Level
from counterlens.core.diffusion.network import Network
from counterlens.core.diffusion.schedulers import Dynamics, dynamics_of, first_order, grid_of
from counterlens.core.diffusion.sites import activation_sites, attention_sites
from counterlens.core.diffusion.step import Condition, Extra


@dataclass(eq=False)
class Pipeline:
    """Base of every family's pipeline. ``modules`` are the lent networks by their folder's name.

    Subclasses give ``encode``, ``decode``, ``condition`` and ``predict``; ``branches`` names the conditions
    under which the network can be asked, the empty one first (``null``), the full one last.
    """

    modules: Mapping[str, nn.Module]
    scheduler: Any
    uri: str = ""
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    others: Mapping[str, Any] = field(default_factory=dict)  # tokenizers, image processors
    settings: Mapping[str, Any] = field(default_factory=dict)  # of model_index.json and the pool key's options
    offload: bool = False  # networks wait on the CPU until they are used

    family: ClassVar[str] = ""
    encoder: ClassVar[str] = ""  # the network that makes image embeddings, if the pipeline is conditioned on them

    @property
    def branches(self) -> tuple[str, ...]:
        """Conditions under which the network can be asked, the empty one first."""
        return ("free",)

    def use(self, name: str) -> Any:
        """The network of that name, ready on the device; with ``offload`` the others go back to the CPU.

        They stay while a gradient is recorded, because going backward needs their weights where they were.
        """
        if self.offload:
            for other, module in self.modules.items():
                if other != name and not torch.is_grad_enabled():
                    module.to("cpu")
            self.modules[name].to(self.device)
        return self.modules[name]

    @property
    def unet(self) -> nn.Module:
        return self.modules["unet"]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images that the pipeline makes."""
        raise NotImplementedError

    def encode(self, image: Tensor) -> Tensor:
        """[B,3,H,W] in [-1,1] -> x0 [B,C,h,w] fp32, what the loop runs on; deterministic, batch-independent."""
        raise NotImplementedError

    def decode(self, x0: Tensor) -> Tensor:
        """x0 [B,C,h,w] -> [B,3,H,W] in about [-1,1], fp32, differentiable, not clamped."""
        raise NotImplementedError

    def condition(self, image: Tensor, prompts: Sequence[str], branches: Sequence[str]) -> tuple[Condition, Extra]:
        """The conditions of these images ([B,3,H,W] in [-1,1], one prompt each) for the branches asked for."""
        return {branch: image.new_zeros(len(image), 0) for branch in branches}, {}

    def embed(self, image: Tensor) -> Tensor:
        """[B,3,H,W] in [-1,1] -> embeddings [B,D] fp32 that the network is conditioned on."""
        raise NotImplementedError

    def encoder_folder(self) -> Path:
        """The folder with ``image_encoder/`` and ``image_processor/``, for classifiers that stand on the encoder."""
        raise NotImplementedError

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings [B,D] fp32 of words, in the same space; MissingError when the text encoder is not there."""
        raise NotImplementedError

    def predict(self, x: Tensor, t: Tensor, cond: Tensor, extra: Mapping[str, Tensor]) -> Tensor:
        """One call of the U-Net: x [N,C,h,w], t [N], cond [N,…] -> [N,C or 2C,h,w]."""
        raise NotImplementedError

    @property
    def channels(self) -> int:
        """Channels of x0; a network that answers with more has learned its variance."""
        raise NotImplementedError

    @property
    def dynamics(self) -> Dynamics:
        return dynamics_of(first_order(self.scheduler))

    def grid(self, n: int) -> tuple[Level, ...]:
        return grid_of(self.scheduler, n)

    def network(self, checkpointed: bool = False) -> Network:
        """The network with a fresh meter, for one run."""
        return Network(
            predict=self.predict,
            dynamics=self.dynamics,
            channels=self.channels,
            sites=activation_sites(self.unet),
            attention=attention_sites(self.unet),
            dtype=self.dtype,
            meter=CostMeter(),
            checkpointed=checkpointed,
        )
