"""Sums that merge exactly, and the Fréchet distance between the Gaussians they describe.

Features are rounded to multiples of 2^-14 first. Their products are then multiples of 2^-28, and float64 adds them
without any rounding as long as no feature's sum of squares exceeds 2^25 (millions of images): every order and grouping
of images gives the same bits. The rounding itself adds a variance of 2^-28/12 to every feature, far below what a sample
of images can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

QUANTUM = 2.0**-14


@dataclass(frozen=True)
class Moments:
    """(n, Σx, Σxxᵀ) of features [N,D] in float64; ``total`` is [D], ``outer`` [D,D]. None before the first picture."""

    n: int = 0
    total: np.ndarray | None = None
    outer: np.ndarray | None = None

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        import numpy as np

        x = np.round(features.double().numpy() / QUANTUM) * QUANTUM
        return cls(len(x), x.sum(0), x.T @ x) if len(x) else cls()

    def merge(self, other: Moments) -> Moments:
        if self.total is None or other.total is None:
            return other if self.total is None else self
        assert self.outer is not None and other.outer is not None
        return Moments(self.n + other.n, self.total + other.total, self.outer + other.outer)

    @property
    def exact(self) -> bool:
        """No sum was rounded, so that merging is exact."""
        return self.outer is None or bool(self.outer.diagonal().max() < 2.0**25)

    def gaussian(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean [D] and unbiased covariance [D,D] of at least two pictures."""
        import numpy as np

        assert self.total is not None and self.outer is not None
        mean = self.total / self.n
        return mean, (self.outer - self.n * np.outer(mean, mean)) / (self.n - 1)


def frechet(first: Moments, second: Moments) -> float:
    """|μ1-μ2|² + Tr(Σ1 + Σ2 - 2(Σ1Σ2)^½), Heusel et al. 2017, eq. 6; nan for fewer than two pictures on a side.

    (Σ1Σ2)^½ has the trace of (R Σ2 R)^½ with R = Σ1^½, which is symmetric, so that no complex root can appear.
    """
    import numpy as np

    if min(first.n, second.n) < 2:
        return float("nan")
    (m1, c1), (m2, c2) = first.gaussian(), second.gaussian()
    values, vectors = np.linalg.eigh(c1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ c2 @ root).clip(0)).sum()
    return max(0.0, float(np.square(m1 - m2).sum() + np.trace(c1) + np.trace(c2) - 2 * shared))
