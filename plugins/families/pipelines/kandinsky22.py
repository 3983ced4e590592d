from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from counterlens.core.diffusion.step import Condition, Extra
from counterlens.core.errors import MissingError
from counterlens.core.images.pixels import to_bytes
from counterlens.core.models import hub
from counterlens.plugins.families.pipelines.codec import Latent

TEXT = {"tokenizer": ("transformers", "CLIPTokenizer"), "text_encoder": ("transformers", "CLIPTextModelWithProjection")}


@dataclass(eq=False)
class Kandinsky22Loaded(Latent):
    """Kandinsky 2.2's decoder: a U-Net on MoVQ latents under the CLIP embedding of an image (unCLIP)."""

    family: ClassVar[str] = "kandinsky22"
    codec: ClassVar[str] = "movq"
    encoder: ClassVar[str] = "image_encoder"
    prior: Callable[[Sequence[str]], Path] | None = None  # finds the prior's folder with these parts in it

    @property
    def branches(self) -> tuple[str, ...]:
        return ("null", "image")

    @torch.no_grad()
    def condition(self, image: Tensor, prompts: Sequence[str], branches: Sequence[str]) -> tuple[Condition, Extra]:
        """{branch: [B,D]}: the images' CLIP embeddings; ``null`` is that of a zero tensor, as in the stock prior."""
        return {
            branch: self._null().expand(len(image), -1) if branch == "null" else self.embed(image)
            for branch in branches
        }, {}

    @torch.no_grad()
    def embed(self, image: Tensor) -> Tensor:
        return self._encoded(self._processed(image))

    @torch.no_grad()
    def _null(self) -> Tensor:
        side = self.use("image_encoder").config.image_size
        return self._encoded(torch.zeros(1, 3, side, side))

    def _encoded(self, pixels: Tensor) -> Tensor:
        encoder: Any = self.use("image_encoder")
        return encoder(pixels.to(self.device, encoder.dtype)).image_embeds.float()

    def encoder_folder(self) -> Path:
        if self.prior is None:
            raise MissingError(f"{self.uri}: it is not known where its image encoder is")
        return self.prior(("image_encoder", "image_processor"))

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """By the prior's text encoder, which is loaded for this and not kept: nothing else needs it."""
        from counterlens.core.models.device import dtype_of
        from counterlens.core.models.loading import load_part
        from counterlens.plugins.families.pipelines.text import tokens

        if self.prior is None:
            raise MissingError(f"{self.uri}: it is not known where the text encoder of its prior is")
        folder = self.prior(tuple(TEXT))
        for part in TEXT:
            hub.check_part(folder, part, TEXT)
        tokenizer, encoder = (load_part(folder, part, TEXT, dtype_of("float32")) for part in TEXT)
        inputs = tokens(tokenizer, texts)
        return encoder(inputs.input_ids, attention_mask=inputs.attention_mask).text_embeds.float().to(self.device)

    def _processed(self, image: Tensor) -> Tensor:
        """[B,3,H,W] in [-1,1] through CLIP's own processor, as a saved picture would go."""
        saved = to_bytes(image.float())
        return self.others["image_processor"](list(saved), return_tensors="pt").pixel_values

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
