"""The bootstrap over images, for all columns of a table at once: a replicate is how often each image was drawn."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

LEVEL = 0.95
CHUNK = 4_000_000  # numbers of draws that are held at once


def tabled(table: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(sums, counts) [images, columns] of the measured values of every image, in the order of the images' names."""
    images: dict[str, list[list[float]]] = {}
    for at, row in enumerate(table):
        values = images.setdefault(str(row.get("image") or at), [[] for _ in names])
        for column, name in zip(values, names, strict=True):
            value = row.get(name)
            if value is not None and math.isfinite(value):
                column.append(float(value))
    ordered = [images[key] for key in sorted(images)]
    shape = (len(ordered), len(names))
    sums = np.array([[math.fsum(values) for values in image] for image in ordered]).reshape(shape)
    counts = np.array([[len(values) for values in image] for image in ordered], dtype=float).reshape(shape)
    return sums, counts


def bounds_of(sums: np.ndarray, counts: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """[columns, 2]: percentiles of the resampled means; nan for a column that no image measured."""
    means = []
    for drawn in draws(len(sums), replicates, seed):
        below = drawn @ counts
        means.append(np.divide(drawn @ sums, below, out=np.full_like(below, np.nan), where=below > 0))
    if not means:
        return np.full((sums.shape[1], 2), np.nan)
    every = np.concatenate(means)
    measured = np.isfinite(every).any(0)
    found = np.full((sums.shape[1], 2), np.nan)
    found[measured] = np.nanquantile(every[:, measured], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0).T
    return found


def draws(n: int, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of n images is drawn, [replicates, n] in parts; the same for all methods and columns."""
    if n * replicates <= CHUNK:
        yield _drawn(n, replicates, seed)
        return
    rng, at_once = generator(seed, "images"), max(1, CHUNK // max(n, 1))
    for begin in range(0, replicates, at_once):
        yield _counted(rng.integers(0, n, (min(at_once, replicates - begin), n)))


@lru_cache(maxsize=2)
def _drawn(n: int, replicates: int, seed: int) -> np.ndarray:
    return _counted(generator(seed, "images").integers(0, n, (replicates, n))) if n else np.zeros((replicates, 0))


def _counted(picked: np.ndarray) -> np.ndarray:
    """[R,n] of picked indices as [R,n] of how often each was picked."""
    rows, n = picked.shape
    flat = (picked + n * np.arange(rows)[:, None]).ravel()
    return np.bincount(flat, minlength=rows * n).reshape(rows, n).astype(float)


def exact(hits: int, n: int) -> list[float]:
    """Clopper and Pearson's 95 % interval of a share.

    >>> [round(bound, 3) for bound in exact(20, 20)]
    [0.832, 1.0]
    """
    from scipy.stats import binomtest

    found = binomtest(hits, n).proportion_ci(LEVEL, "exact")
    return [float(found.low), float(found.high)]


def generator(seed: int, name: str) -> np.random.Generator:
    """Randomness that depends on a seed and a word alone."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed}|{name}".encode()).digest()[:8], "big"))
