from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from counterlens.core.types import Condition, Extra
from counterlens.plugins.families.pipelines.codec import Latent


class Kandinsky22Loaded(Latent):
    """Kandinsky 2.2's decoder: a U-Net on MoVQ latents under the CLIP embedding of an image (unCLIP)."""

    family: ClassVar[str] = "kandinsky22"
    codec: ClassVar[str] = "movq"

    @property
    def branches(self) -> tuple[str, ...]:
        return ("null", "image")

    @torch.no_grad()
    def condition(self, image: Tensor, prompts: Sequence[str], branches: Sequence[str]) -> tuple[Condition, Extra]:
        """{branch: [B,D]}: the images' CLIP embeddings; ``null`` is that of a zero tensor, as in the stock prior."""
        encoder: Any = self.use("image_encoder")
        cond = {}
        for branch in branches:
            pixels = self._zeros(encoder) if branch == "null" else self._processed(image)
            out = encoder(pixels.to(self.device, encoder.dtype)).image_embeds.float()
            cond[branch] = out.expand(len(image), -1)
        return cond, {}

    def _processed(self, image: Tensor) -> Tensor:
        """[B,3,H,W] in [-1,1] through CLIP's own processor, as a saved picture would go."""
        saved = ((image.float() / 2 + 0.5).clamp(0, 1) * 255).round().byte().cpu()
        return self.others["image_processor"](list(saved), return_tensors="pt").pixel_values

    @staticmethod
    def _zeros(encoder: Any) -> Tensor:
        side = encoder.config.image_size
        return torch.zeros(1, 3, side, side)

    def latents(self, encoded: Any) -> Tensor:
        return encoded.latents

    def pixels(self, codec: Any, z: Tensor) -> Tensor:
        return codec.decode(z, force_not_quantize=True).sample

    # MoVQ's latents are used as they are, whatever scaling_factor its configuration has: the stock decoder does
    # not scale either
    def scaled(self, z: Tensor) -> Tensor:
        return z

    def unscaled(self, x0: Tensor) -> Tensor:
        return x0

    def predict(self, x: Tensor, t: Tensor, cond: Tensor, extra: Mapping[str, Tensor]) -> Tensor:
        added = {"image_embeds": cond.to(x.dtype)}
        return self.use("unet")(x, t, encoder_hidden_states=None, added_cond_kwargs=added).sample
