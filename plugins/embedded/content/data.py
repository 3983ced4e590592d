"""What training sees of a domain: images as tensors, labels, captions, light augmentation."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from counterlens.core.images.pixels import to_unit_tensor
from counterlens.core.training.augment import jitter
from counterlens.plugins.embedded.content import digits, shapes

__all__ = ["jitter"]

DOMAINS = ("shapes", "digits")
CIRCULAR = ("hue", "background", "angle")
TARGETS = ("spikiness", "size", "cx", "cy", "lobes", *tuple(f"{n}_{f}" for n in CIRCULAR for f in ("cos", "sin")))
SHORTCUT = 0.95  # share of training images whose background says the class
RANGES = {
    "spikiness": (0.5, 0.29),
    "size": (0.335, 0.0375),
    "cx": (0.5, 0.0404),
    "cy": (0.5, 0.0404),
    "lobes": (5.5, 1.118),
}


def classes(domain: str) -> tuple[str, ...]:
    return shapes.CLASSES if domain == "shapes" else digits.CLASSES


def tensor(pictures: np.ndarray) -> Tensor:
    """uint8 [N,32,32,3] to float [N,3,32,32] in [0,1]."""
    return to_unit_tensor(pictures)


@lru_cache(maxsize=8)
def load(domain: str, split: str) -> tuple[Tensor, Tensor, list[shapes.Factors] | None]:
    """Images [N,3,32,32] in [0,1], labels [N] and (shapes) factors; generators use ``train-all`` of digits."""
    if domain == "shapes":
        if split == "train-shortcut":
            drawn = shapes.with_shortcut(shapes.factors("train"), SHORTCUT, seed=7)
            pictures = np.stack([shapes.render(f) for f in drawn])
            return tensor(pictures), torch.tensor([f.label for f in drawn]), drawn
        pictures, labels, drawn = shapes.images("train" if split == "train-all" else split)
        return tensor(pictures), torch.from_numpy(labels), drawn
    pictures, labels = digits.images(split)
    return tensor(pictures), torch.from_numpy(labels), None


def factor_targets(drawn: list[shapes.Factors]) -> Tensor:
    """[N,11] about unit variance, in the order of TARGETS; circular factors as cosine and sine."""
    rows = []
    for f in drawn:
        plain = [(getattr(f, n) - RANGES[n][0]) / RANGES[n][1] for n in TARGETS[:5]]
        turns = [2 * np.pi * getattr(f, n) for n in CIRCULAR]
        rows.append(plain + [g(t) * 2**0.5 for t in turns for g in (np.cos, np.sin)])
    return torch.tensor(rows, dtype=torch.float32)
