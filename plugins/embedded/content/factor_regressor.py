"""Factors of shapes read off any picture by the domain's regressor (figures: ``regressor_r2`` of its record)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn

from counterlens.plugins.embedded.content import data, nets, store


@lru_cache(maxsize=1)
def regressor() -> nn.Module:
    """[B,3,32,32] in [0,1] -> [B,11], in the order of ``data.TARGETS``."""
    return nets.load_net(store.checked(store.WEIGHTS / "shapes" / "nets" / "regressor.safetensors"))[0].eval()


@torch.no_grad()
def factors(images: Tensor) -> Mapping[str, Tensor]:
    """[B] by name, in the units that pictures are drawn from; circular ones in [0,1)."""
    out = regressor().to(images.device)(images.float())
    row = dict(zip(data.TARGETS, out.T, strict=True))
    plain = {name: middle + spread * row[name] for name, (middle, spread) in data.RANGES.items()}
    turns = {name: torch.atan2(row[f"{name}_sin"], row[f"{name}_cos"]) / (2 * math.pi) % 1 for name in data.CIRCULAR}
    return {**plain, **turns}
