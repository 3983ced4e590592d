"""Conversions between pixels and tensors, and the distance between two pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    pass


def to_tensor(pixels: np.ndarray) -> Any:
    """uint8 [H,W,3] -> float32 torch tensor [3,H,W] in [-1,1]."""

    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1)


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal to noise ratio [B] in dB of pictures [B,3,H,W] in [0,1]; at most 100."""
    return (-10 * (x.float() - y.float()).square().flatten(1).mean(1).clamp_min(1e-10).log10()).cpu()


def as_saved(image: Tensor) -> Tensor:
    """[B,3,H,W] in [-1,1] -> [0,1] in the 256 steps of a saved picture: what a user gets is what is scored."""
    return ((image.float() / 2 + 0.5).clamp(0, 1) * 255).round() / 255


def to_pixels(image: Tensor) -> np.ndarray:
    """[3,H,W] in [-1,1] -> uint8 [H,W,3]."""
    return ((image / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
