"""Leading singular vectors of a linear map that is known only by its products with vectors.

Block Krylov with full re-orthogonalisation and Rayleigh-Ritz (Golub and Kahan 1965; Musco and Musco 2015): from
orthonormal rows V the space of ``V, (A'A)V, (A'A)²V, …`` is built, and the best right vectors within it are read off a
small matrix. Every product serves twice, to build the space and to tell how good the answer is: the residual
``|A'u - s v| / s_1`` of each triplet is the certificate. Sums are float64 on the CPU, products whatever the map is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Apply = Callable[[Tensor], Tensor]
TINY = 1e-10  # what is left of a row, relative to the map, when it lies in the space already


@dataclass
class Operator:
    """A linear map A, [m,d]: ``times`` takes rows [n,d] to (A v) [n,m], ``back`` rows [n,m] to (A' u) [n,d].

    Counts what it is asked: ``products`` with one vector each, and ``rounds`` that have to wait for one another.
    """

    times: Apply
    back: Apply
    d: int
    products: int = 0
    rounds: int = 0

    def forth(self, v: Tensor) -> Tensor:
        return self._count(self.times, v)

    def adjoint(self, u: Tensor) -> Tensor:
        return self._count(self.back, u)

    def _count(self, apply: Apply, rows: Tensor) -> Tensor:
        self.products += len(rows)
        self.rounds += 1
        return apply(rows).to("cpu", torch.float64)


@dataclass(frozen=True)
class Spectrum:
    """``values`` [k] descending and orthonormal ``right`` [k,d] (float64), with ``residual`` [k] = |A'u - s v| / s_1.

    ``block`` [b,d], the best rows found besides, is a warm start for a map near this one.
    """

    values: Tensor
    right: Tensor
    residual: Tensor
    block: Tensor
    products: int
    rounds: int
    converged: bool


def leading(
    a: Operator, k: int, block: int = 0, tol: float = 1e-3, limit: int = 100, start: Tensor | None = None, seed: int = 0
) -> Spectrum:
    """The k largest singular values of ``a`` and their right vectors, until every residual is at most ``tol``.

    ``block`` rows go through the map together (at least k; 0: k + 1); ``start`` [·,d] are guesses; ``limit`` is the
    largest number of rounds. ValueError for k outside 1…d.
    """
    if not 1 <= k <= a.d:
        raise ValueError(f"{k} singular vectors of a map of {a.d} numbers: ask for 1 to {a.d}")
    before = (a.products, a.rounds)
    new = starting_rows(a.d, min(a.d, max(block or k + 1, k)), start, seed)
    width = len(new)
    basis, images = new[:0], new[:0]
    while True:
        basis = torch.cat([basis, new])
        images = torch.cat([images, a.adjoint(a.forth(new))])  # A'A of every row of the basis
        lam, p = ritz(basis @ images.T)
        values = lam[:k].clamp_min(0).sqrt()
        right = p[:, :k].T @ basis
        gap = (p[:, :k].T @ images - values[:, None] ** 2 * right).norm(dim=1)
        residual = gap / (values * values[0]).clamp_min(1e-300)
        residual = torch.where(gap == 0, torch.zeros_like(gap), residual)
        rounds = a.rounds - before[1]
        done = bool((residual <= tol).all())
        if not done and rounds < limit:
            new = outside(images[-len(new) :], basis, float(lam[0]))[:width]
        if done or rounds >= limit or not len(new) or len(basis) >= a.d:
            return Spectrum(
                values=values,
                right=right,
                residual=residual,
                block=p[:, :width].T @ basis,
                products=a.products - before[0],
                rounds=rounds,
                converged=done or len(basis) >= a.d or not len(new),
            )


def ritz(small: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, descending, and eigenvectors (columns) of a symmetric matrix [n,n]."""
    lam, p = torch.linalg.eigh((small + small.T) / 2)
    return lam.flip(0), p.flip(1)


def starting_rows(d: int, n: int, start: Tensor | None, seed: int) -> Tensor:
    """n orthonormal rows [n,d]: the guesses, then random ones."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, d, generator=g, dtype=torch.float64)
    if start is None:
        return outside(rows, rows[:0], 1.0)
    guess = outside(start.to("cpu", torch.float64)[:n], rows[:0], 1.0)
    return torch.cat([guess, outside(rows[: n - len(guess)], guess, 1.0)])


def outside(rows: Tensor, basis: Tensor, scale: float) -> Tensor:
    """Orthonormal rows that span what of ``rows`` [n,d] lies outside of ``basis`` [·,d]; fewer where that is nothing.

    Projected again, since once leaves rounding that grows from round to round (Parlett 1998, section 6.9).
    """
    for _ in range(2):
        rows = rows - (rows @ basis.T) @ basis
    _, size, right = torch.linalg.svd(rows, full_matrices=False)
    rows = right[size > TINY * scale]
    return torch.linalg.qr((rows - (rows @ basis.T) @ basis).T).Q.T.contiguous()
