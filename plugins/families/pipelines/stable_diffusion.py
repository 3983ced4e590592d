from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from counterlens.core.diffusion.step import Condition, Extra
from counterlens.plugins.families.pipelines.codec import Latent
from counterlens.plugins.families.pipelines.text import last_hidden, texts_of, tokens


class StableDiffusionLoaded(Latent):
    """Stable Diffusion 1.x and 2.x: a U-Net on VAE latents that attends to the words of a prompt."""

    family: ClassVar[str] = "stable-diffusion"

    @property
    def branches(self) -> tuple[str, ...]:
        return ("null", "text")

    def condition(self, image: Tensor, prompts: Sequence[str], branches: Sequence[str]) -> tuple[Condition, Extra]:
        """{branch: [B,T,D]}: the last hidden states of the prompts, of the empty prompt for ``null``."""
        encoder = self.use("text_encoder")
        masked = bool(getattr(encoder.config, "use_attention_mask", False))
        tokenizer = self.others["tokenizer"]
        return {
            branch: last_hidden(encoder, tokens(tokenizer, texts_of(branch, prompts)), self.device, masked)
            for branch in branches
        }, {}

    def predict(self, x: Tensor, t: Tensor, cond: Tensor, extra: Mapping[str, Tensor]) -> Tensor:
        return self.use("unet")(x, t, encoder_hidden_states=cond.to(x.dtype)).sample
