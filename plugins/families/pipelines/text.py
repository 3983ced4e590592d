"""Prompts to embeddings, as the stock pipelines do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def tokens(tokenizer: Any, prompts: Sequence[str], length: int | None = None) -> Any:
    """Token ids and attention mask [B,T], padded and cut to one length."""
    return tokenizer(
        list(prompts),
        padding="max_length",
        max_length=length or tokenizer.model_max_length,
        truncation=True,
        return_attention_mask=True,
        return_tensors="pt",
    )


def texts_of(branch: str, prompts: Sequence[str]) -> list[str]:
    """The prompts of a branch: none at all for ``null``."""
    return [""] * len(prompts) if branch == "null" else list(prompts)


@torch.no_grad()
def last_hidden(encoder: Any, inputs: Any, device: str, masked: bool) -> Tensor:
    """The encoder's last hidden state [B,T,D], fp32."""
    mask = inputs.attention_mask.to(device) if masked else None
    return encoder(inputs.input_ids.to(device), attention_mask=mask)[0].float()
