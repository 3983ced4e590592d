from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from counterlens.core.diffusion.module_hooks import captured
from counterlens.core.diffusion.step import Condition, Extra
from counterlens.plugins.families.pipelines.codec import Latent
from counterlens.plugins.families.pipelines.refiner import Refiner
from counterlens.plugins.families.pipelines.text import texts_of, tokens


class SdxlLoaded(Latent):
    """Stable Diffusion XL: two text encoders side by side, a pooled text, and the picture's size as numbers."""

    family: ClassVar[str] = "sdxl"
    refiner: Refiner | None = None  # asked in the last steps, with the network ``modules["refiner"]``

    @property
    def branches(self) -> tuple[str, ...]:
        return ("null", "text")

    def condition(self, image: Tensor, prompts: Sequence[str], branches: Sequence[str]) -> tuple[Condition, Extra]:
        """{branch: [B,T,D1+D2]}; extra: ``text_embeds`` [B,P] and ``time_ids`` [B,6] (and a refiner's)."""
        cond, extra = {}, {}
        for branch in branches:
            said = words, pooled = self.encode_texts(texts_of(branch, prompts))
            if branch == "null" and self.settings.get("force_zeros_for_empty_prompt", True):
                words, pooled = torch.zeros_like(words), torch.zeros_like(pooled)
            # original size, crop corner, target size (SDXL, section 2.2)
            ids = torch.tensor([*image.shape[-2:], 0, 0, *image.shape[-2:]], device=self.device, dtype=torch.float32)
            ids = ids.expand(len(prompts), -1)
            cond[branch], extra[branch] = words, {"text_embeds": pooled, "time_ids": ids}
            if self.refiner is not None:
                extra[branch] |= self.refiner.told(branch, *said, ids, words)
        return cond, extra

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The last but one hidden states of both encoders, and the second's pooled text."""
        words, pooled = [], None
        for i in ("", "_2"):
            inputs = tokens(self.others[f"tokenizer{i}"], texts)
            hidden, out = last_but_one(self.use(f"text_encoder{i}"), inputs.input_ids.to(self.device))
            words.append(hidden.float())
            pooled = out[0].float()
        assert pooled is not None
        return torch.cat(words, -1), pooled

    def scaled(self, z: Tensor) -> Tensor:
        shift, spread = self._moments(z)
        return super().scaled((z - shift) / spread)

    def unscaled(self, x0: Tensor) -> Tensor:
        shift, spread = self._moments(x0)
        return super().unscaled(x0) * spread + shift

    def _moments(self, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Mean and deviation of the latents, for checkpoints that give them (playground-v2.5)."""
        config: Any = self.modules["vae"].config
        mean, std = config.get("latents_mean"), config.get("latents_std")
        if mean is None or std is None:
            return 0.0, 1.0
        return tuple(torch.tensor(v, device=like.device, dtype=like.dtype).view(1, -1, 1, 1) for v in (mean, std))  # type: ignore[return-value]

    def predict(self, x: Tensor, t: Tensor, cond: Tensor, extra: Mapping[str, Tensor]) -> Tensor:
        """The answer of the expert of each row's noise level."""
        if self.refiner is None or not (late := t < self.refiner.below).any():
            return self._base(x, t, cond, extra)
        if late.all():
            return self.refiner.predict(self.use("refiner"), x, t, cond, extra)
        out = torch.empty_like(x)
        for rows, ask in ((~late, self._base), (late, partial(self.refiner.predict, self.use("refiner")))):
            picked = {name: value[rows] for name, value in extra.items()}
            out[rows] = ask(x[rows], t[rows], cond[rows], picked)
        return out

    def _base(self, x: Tensor, t: Tensor, cond: Tensor, extra: Mapping[str, Tensor]) -> Tensor:
        added = {name: extra[name].to(x.dtype) for name in ("text_embeds", "time_ids")}
        return self.use("unet")(x, t, encoder_hidden_states=cond.to(x.dtype), added_cond_kwargs=added).sample


def last_but_one(encoder: Any, ids: Tensor) -> tuple[Tensor, Any]:
    """What enters the last layer of a text encoder, [B,T,D], and the encoder's answer.

    ``output_hidden_states`` would do, but some versions of transformers leave hooks behind at its first use.
    """
    layers: Any = next(module for name, module in encoder.named_modules() if name.endswith("encoder.layers"))
    with captured([layers[-1]], input=True) as calls:
        out = encoder(ids)
    return calls[0][1], out
