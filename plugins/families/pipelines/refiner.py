"""SDXL's second expert: a U-Net that takes the trajectory over for its last, least noisy steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from counterlens.core.errors import UsageError

SCORES = {"null": 2.5}  # aesthetic scores, in place of the target size (as published: 6, and 2.5 for ``null``)
SCORE = 6.0


@dataclass(frozen=True, eq=False)
class Refiner:
    """What the second expert is asked, in the words of the first, who shares its second text encoder with it.

    ``below``: the training timestep under which it is asked; ``zeros``: whether its empty prompt is all zeros;
    ``scored``: whether it is told an aesthetic score. Source: SDXL (Podell et al. 2023), section 2.5, an "ensemble of
    expert denoisers".
    """

    below: float
    zeros: bool
    scored: bool

    def told(self, branch: str, words: Tensor, pooled: Tensor, ids: Tensor, own: Tensor) -> dict[str, Tensor]:
        """What it is told beside the first expert's condition ``own`` [B,T,D1+D2], for one branch.

        ``words`` [B,T,D1+D2] and ``pooled`` [B,P] as encoded, ``ids`` [B,6]. Its words come as a difference from
        those of the first, so that editors of the condition reach both.
        """
        if branch == "null" and self.zeros:
            words, pooled = torch.zeros_like(words), torch.zeros_like(pooled)
        score = ids.new_full((len(ids), 1), SCORES.get(branch, SCORE))
        ids = torch.cat([ids[:, :4], score], 1) if self.scored else ids
        return {"refiner_words": words - own, "refiner_pooled": pooled, "refiner_ids": ids}

    def predict(self, unet: Any, x: Tensor, t: Tensor, cond: Tensor, extra: Mapping[str, Tensor]) -> Tensor:
        """Its answer; of the words it reads those of the second encoder."""
        width = unet.config.cross_attention_dim
        words = (cond + extra["refiner_words"])[..., -width:].to(x.dtype)
        added = {"text_embeds": extra["refiner_pooled"].to(x.dtype), "time_ids": extra["refiner_ids"].to(x.dtype)}
        return unet(x, t, encoder_hidden_states=words, added_cond_kwargs=added).sample


def refiner_of(unet: Any, index: Mapping[str, Any], train_steps: int, hand_over: float, pooled: int) -> Refiner:
    """The refiner behind a loaded U-Net. ``pooled``: width of the second text encoder's answer.

    ``hand_over``: the share of the noise schedule that the first expert walks (diffusers' ``denoising_end``).
    """
    config = unet.config
    wide = (config.get("projection_class_embeddings_input_dim") or 0) - pooled
    numbers = wide / (config.get("addition_time_embed_dim") or 1)
    if numbers not in (5, 6):
        raise UsageError(
            f"--refiner: its U-Net is not told a text of {pooled} numbers and 5 or 6 about the picture, as SDXL's is"
        )
    zeros = bool(index.get("force_zeros_for_empty_prompt", True))
    return Refiner(round(train_steps * (1 - hand_over)), zeros, numbers == 5)
