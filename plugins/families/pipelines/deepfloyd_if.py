from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from counterlens.core.diffusion.step import Condition, Extra
from counterlens.plugins.families.pipelines.codec import Pixel
from counterlens.plugins.families.pipelines.text import last_hidden, texts_of, tokens

LENGTH = 77  # T5 can take more, IF was trained with this
SHRINK = 4  # 64x64 of stage I to 256x256 of stage II


class DeepFloydIfLoaded(Pixel):
    """DeepFloyd IF, stage I: a U-Net on pixels that attends to the words of a T5 and learned its variance."""

    family: ClassVar[str] = "deepfloyd-if"

    @property
    def branches(self) -> tuple[str, ...]:
        return ("null", "text")

    @property
    def channels(self) -> int:
        return 3  # the network answers with six: noise and variance

    def condition(self, image: Tensor, prompts: Sequence[str], branches: Sequence[str]) -> tuple[Condition, Extra]:
        """{branch: [B,77,D]} of the prompts in lower case, as IF's own preprocessing makes them."""
        encoder, tokenizer = self.use("text_encoder"), self.others["tokenizer"]
        texts = {branch: [text.lower().strip() for text in texts_of(branch, prompts)] for branch in branches}
        return {
            branch: last_hidden(encoder, tokens(tokenizer, texts[branch], LENGTH), self.device, masked=True)
            for branch in branches
        }, {}

    def predict(self, x: Tensor, t: Tensor, cond: Tensor, extra: Mapping[str, Tensor]) -> Tensor:
        return self.use("unet")(x, t, encoder_hidden_states=cond.to(x.dtype)).sample


class DeepFloydIfUpLoaded(DeepFloydIfLoaded):
    """DeepFloyd IF, stage II: the same, and beside the noisy image a small one, enlarged and a little noised."""

    @property
    def _level(self) -> int:
        """How noisy the small image is made, a timestep (the stock pipeline's default)."""
        return int(self.settings.get("noise_level", 250))

    def condition(self, image: Tensor, prompts: Sequence[str], branches: Sequence[str]) -> tuple[Condition, Extra]:
        """As stage I; extra: ``upscaled`` [B,3,H,W] of the image made small, ``noise_level`` [B]."""
        cond, _ = super().condition(image, prompts, branches)
        shrunk = interpolate(image.float(), scale_factor=1 / SHRINK, mode="area")
        extra = self.enlarged(shrunk, (image.shape[-2], image.shape[-1]))
        return cond, {branch: extra for branch in branches}

    def enlarged(self, small: Tensor, size: tuple[int, int], noise: Tensor | None = None) -> dict[str, Tensor]:
        """A small image [B,3,h,w] in [-1,1] as the network wants it beside x.

        Without ``noise`` it is one fixed draw for all images, so that results depend neither on batch nor order.
        """
        upscaled = interpolate(small, size, mode="bilinear", align_corners=True)
        if noise is None:
            noise = torch.randn((1, *upscaled.shape[1:]), generator=torch.Generator().manual_seed(0))
        level = torch.full((len(small),), self._level)
        noise = noise.to(upscaled.device).expand_as(upscaled)
        noised = self.others["image_noising_scheduler"].add_noise(upscaled, noise, timesteps=level)
        return {"upscaled": noised, "noise_level": level.to(upscaled.device)}

    def predict(self, x: Tensor, t: Tensor, cond: Tensor, extra: Mapping[str, Tensor]) -> Tensor:
        both = torch.cat([x, extra["upscaled"].to(x.dtype)], 1)
        unet = self.use("unet")
        return unet(both, t, encoder_hidden_states=cond.to(x.dtype), class_labels=extra["noise_level"]).sample
