"""The 1,797 handwritten digits inside scikit-learn, framed by one dark pixel and upsampled smoothly
from 10x10 to 32x32 RGB (three equal channels)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

SIZE = 32
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SEED = 1797
SHARES = {
    "test": 0.2,
    "val": 0.1,
}  # of each class; the rest is training, one half for the classifier, one for the judge


@lru_cache(maxsize=1)
def _all() -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    small = np.round(data.images * (255 / 16)).astype(np.uint8)
    small = np.pad(small, ((0, 0), (1, 1), (1, 1)))  # the strokes reach the border: leave them room
    grey = [Image.fromarray(im).resize((SIZE, SIZE), Image.Resampling.BICUBIC) for im in small]
    return np.stack([np.repeat(np.asarray(im)[..., None], 3, 2) for im in grey]), data.target.astype(np.int64)


@lru_cache(maxsize=1)
def split_indices() -> dict[str, np.ndarray]:
    """Indices of each split, stratified by class; ``train-all`` is ``train`` and ``train-judge``, which are apart."""
    _, labels = _all()
    rng = np.random.default_rng(SEED)
    parts: dict[str, list[np.ndarray]] = {"test": [], "val": [], "train": [], "train-judge": []}
    for digit in range(len(CLASSES)):
        mine = rng.permutation(np.flatnonzero(labels == digit))
        test, val = (round(SHARES[name] * len(mine)) for name in ("test", "val"))
        rest = mine[test + val :]
        cut = len(rest) // 2
        for name, piece in zip(parts, (mine[:test], mine[test : test + val], rest[:cut], rest[cut:]), strict=True):
            parts[name].append(piece)
    splits = {name: np.sort(np.concatenate(pieces)) for name, pieces in parts.items()}
    # sorted by the data set's own order, so that neighbours are of mixed classes
    splits["train-all"] = np.sort(np.concatenate([splits["train"], splits["train-judge"]]))
    return splits


def images(split: str) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N,32,32,3] and labels [N] of a split."""
    splits = split_indices()
    if split not in splits:
        raise ValueError(f"unknown split {split!r}; there are {', '.join(splits)}")
    pictures, labels = _all()
    return pictures[splits[split]], labels[splits[split]]
