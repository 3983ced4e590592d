"""Conversions between pixels and tensors, and the distance between two pictures.

Three forms: *pixels* uint8 [...,H,W,3], *unit* tensors [...,3,H,W] in [0,1] as classifiers see them, *signed* tensors
in [-1,1] as pipelines do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_tensor(pixels: np.ndarray) -> Any:
    """uint8 [...,H,W,3] -> float32 torch tensor [...,3,H,W] in [-1,1]."""
    return torch.from_numpy(np.moveaxis(pixels, -1, -3).astype(np.float32) / 127.5 - 1)


def to_unit_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 [...,H,W,3] (or grey [H,W] -> [1,H,W]) -> float32 [...,3,H,W] in [0,1]."""
    planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, -3)
    return torch.from_numpy(np.array(planes, order="C")).float() / 255


def unit(image: Tensor) -> Tensor:
    """[-1,1] -> [0,1]."""
    return image / 2 + 0.5


def signed(image: Tensor) -> Tensor:
    """[0,1] -> [-1,1]."""
    return image * 2 - 1


def clamped(image: Tensor) -> Tensor:
    """Clamped to [-1,1] straight-through: saturated pixels keep their gradient."""
    return image + (image.clamp(-1, 1) - image).detach()


def rounded(image: Tensor) -> Tensor:
    """[0,1] in the 256 steps of a saved picture; what is beyond is clamped."""
    return (image.clamp(0, 1) * 255).round() / 255


def as_saved(image: Tensor) -> Tensor:
    """[B,3,H,W] in [-1,1] -> [0,1] in the 256 steps of a saved picture: what a user gets is what is scored."""
    return rounded(unit(image.float()))


def to_bytes(image: Tensor) -> Tensor:
    """[-1,1] -> uint8 of the same shape, on the CPU."""
    return (unit(image).clamp(0, 1) * 255).round().byte().cpu()


def to_pixels(image: Tensor) -> np.ndarray:
    """[...,3,H,W] in [-1,1] -> uint8 [...,H,W,3]."""
    return to_bytes(image).movedim(-3, -1).numpy()


def decibels(error: Tensor, cap: float = 100.0) -> Tensor:
    """-10 log10 of mean squared errors [B], at most ``cap``; nan stays nan."""
    return (-10 * error.clamp_min(1e-30).log10()).clamp_max(cap)


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal to noise ratio [B] in dB of pictures [B,3,H,W] in [0,1]; at most 100."""
    return decibels((x.float() - y.float()).square().flatten(1).mean(1)).cpu()


def difference(before: np.ndarray, after: np.ndarray, gain: float = 0.5) -> Image.Image:
    """The signed change of pixels, ``gain`` times as large, as a picture; grey is no change."""
    change = after.astype(np.float64) - before
    return Image.fromarray((127.5 + change * gain).round().astype(np.uint8))


def contact_sheet(images: Tensor, columns: int = 8, zoom: int = 1) -> Image.Image:
    """Images [N,3,S,T] in [-1,1] in rows of ``columns``, every pixel ``zoom`` times as large."""
    n, columns = len(images), min(columns, len(images))
    height, width = images.shape[-2:]
    whole = np.zeros((-(-n // columns) * columns, height, width, 3), np.uint8)
    whole[:n] = to_pixels(images)
    grid = whole.reshape(-1, columns, height, width, 3).swapaxes(1, 2).reshape(-1, columns * width, 3)
    sheet = Image.fromarray(grid)
    return sheet.resize((sheet.width * zoom, sheet.height * zoom), Image.Resampling.NEAREST)
