"""Random square crops of a picture, so that no single pixel decides.

Crop sizes as in VQGAN-CLIP (Crowson et al. 2022): ``side + U**power·(S - side)``, U uniform, S the shorter side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from counterlens.core.utils.seeds import generator


def crops(image: Tensor, count: int, side: int, power: float, noise: float, seeds: Sequence[int]) -> Tensor:
    """[B,3,H,W] -> [B·count,3,side,side]: uniform places, averaged down to ``side``, Gaussian noise of that deviation.

    Each image is drawn by its own seed. A picture not larger than ``side`` is seen whole. Differentiable.
    """
    return torch.cat([_crops(one, count, side, power, noise, seed) for one, seed in zip(image, seeds, strict=True)])


def _crops(image: Tensor, count: int, side: int, power: float, noise: float, seed: int) -> Tensor:
    source = generator(seed)
    height, width = image.shape[-2:]
    least, most = min(side, height, width), min(height, width)
    parts = []
    for size, top, left in torch.rand(count, 3, generator=source).tolist():
        s = least + int(size**power * (most - least))
        y, x = round(top * (height - s)), round(left * (width - s))
        part = image[:, y : y + s, x : x + s]
        shrink = s >= side
        parts.append(F.adaptive_avg_pool2d(part, side) if shrink else _enlarged(part, side))
    out = torch.stack(parts)
    return out + noise * torch.randn(out.shape, generator=source).to(out) if noise else out


def _enlarged(part: Tensor, side: int) -> Tensor:
    return F.interpolate(part[None], (side, side), mode="bilinear", align_corners=False)[0]
