from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from counterlens.core.diffusion.step import Condition, Extra
from counterlens.core.errors import unknown
from counterlens.core.models.pipeline import Pipeline
from counterlens.plugins.families.pipelines.codec import Latent, Pixel


class Plain(Pipeline):
    """A UNet2DModel, free or under class labels.

    Labels' names are ``id2label`` of model_index.json, as in diffusers' DiTPipeline. When the network has
    one embedding more than there are names, the last one is the empty condition.
    """

    @property
    def _classes(self) -> int:
        return self.unet.config.num_class_embeds or 0  # type: ignore[union-attr, return-value]

    @property
    def labels(self) -> tuple[str, ...]:
        names = self.settings.get("id2label") or {i: str(i) for i in range(self._classes)}
        return tuple(str(names[key]) for key in sorted(names, key=int))

    @property
    def branches(self) -> tuple[str, ...]:
        if not self._classes:
            return ("free",)
        return ("null", "class") if self._classes == len(self.labels) + 1 else ("class",)

    def condition(self, image: Tensor, prompts: Sequence[str], branches: Sequence[str]) -> tuple[Condition, Extra]:
        """{branch: [B,1]} class indices, prompts being names (or numbers) of classes; [B,0] for ``free``."""
        if not self._classes:
            return super().condition(image, prompts, branches)
        index = {"null": [self._classes - 1] * len(prompts), "class": [self._index(p) for p in prompts]}
        return {b: torch.tensor(index[b], device=self.device, dtype=torch.float32)[:, None] for b in branches}, {}

    def _index(self, prompt: str) -> int:
        if prompt in self.labels:
            return self.labels.index(prompt)
        if prompt.isdigit() and int(prompt) < len(self.labels):
            return int(prompt)
        raise unknown("class of the pipeline", prompt, self.labels)

    def predict(self, x: Tensor, t: Tensor, cond: Tensor, extra: Mapping[str, Tensor]) -> Tensor:
        labels = cond[:, 0].round().long() if self._classes else None
        unet: Any = self.use("unet")
        return unet(x, t, class_labels=labels).sample


class DdpmLoaded(Plain, Pixel):
    """A U-Net on pixels (Ho et al. 2020)."""

    family: ClassVar[str] = "ddpm"

    @property
    def channels(self) -> int:
        return self.unet.config.in_channels  # type: ignore[union-attr, return-value]


class LdmLoaded(Plain, Latent):
    """A U-Net on the latents of a VQ autoencoder (Rombach et al. 2022, unconditional)."""

    family: ClassVar[str] = "ldm"
    codec: ClassVar[str] = "vqvae"

    def latents(self, encoded: Any) -> Tensor:
        return encoded.latents  # before quantisation, which decoding does (straight through, so gradients pass)
