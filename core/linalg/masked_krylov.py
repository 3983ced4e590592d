"""Directions that act here and not there: singular vectors of a map under a mask, against what they do outside of it.

Two ways (after LOCO Edit, Chen et al. 2024): *null-space*, the masked map restricted to what the leading directions of
the outside leave over; and *generalised*, the largest ``|M J v|² / (|(1-M) J v|² + floor |v|²)``.
"""

from __future__ import annotations

import scipy.linalg
import torch
from torch import Tensor

from counterlens.core.linalg.krylov import Operator, Spectrum, outside, starting_rows


def without(a: Operator, rows: Tensor) -> Operator:
    """``a`` restricted to what is orthogonal to orthonormal ``rows`` [r,d]: A (I - V'V)."""

    def off(v: Tensor) -> Tensor:
        v = v.to(rows)
        return v - (v @ rows.T) @ rows

    return Operator(lambda v: a.times(off(v)), lambda u: off(a.back(u)), a.d)


def masked_singular_vectors(
    a: Operator,
    weight: Tensor,
    k: int,
    floor: float,
    block: int = 0,
    tol: float = 1e-3,
    limit: int = 100,
    start: Tensor | None = None,
    seed: int = 0,
) -> Spectrum:
    """The k largest ratios of inside to outside and their vectors, for a mask ``weight`` [m] in [0,1] of the output.

    With G = J'M²J and B = J'(1-M)²J + floor·I this is G v = λ B v; ``values`` are √λ, ``right`` unit vectors
    (orthogonal under B), ``residual`` |G v - λ B v| / (λ_1 |B v|). Generalised Davidson (Morgan and Scott 1986): the
    space grows by the residuals, through the inverse of what is known of B. ValueError for k outside 1…d, floor not
    above 0.
    """
    if not 1 <= k <= a.d or floor <= 0:
        raise ValueError(f"k = {k} of {a.d} numbers, floor {floor}: k must be 1 to {a.d}, floor above 0")
    before = (a.products, a.rounds)
    new = starting_rows(a.d, min(a.d, max(block or k + 1, k)), start, seed)
    width, basis, inner, outer = len(new), new[:0], new[:0], new[:0]
    while True:
        basis = torch.cat([basis, new])
        image = a.forth(new)
        both = a.adjoint(torch.cat([weight**2 * image, (1 - weight) ** 2 * image]))
        inner, outer = torch.cat([inner, both[: len(new)]]), torch.cat([outer, both[len(new) :]])
        lam, p = _ratios(basis @ inner.T, basis @ outer.T, floor)
        right, top = p[:, :k].T @ basis, lam[:k, None]
        bv = p[:, :k].T @ outer + floor * right
        gap = p[:, :k].T @ inner - top * bv
        residual = gap.norm(dim=1) / (lam[0].clamp_min(1e-300) * bv.norm(dim=1))
        rounds, full = a.rounds - before[1], len(basis) >= a.d
        done = bool((residual <= tol).all())
        if not (done or full) and rounds < limit:
            wide = p[:, :width].T @ inner - lam[:width, None] * (p[:, :width].T @ (outer + floor * basis))
            grown = _solved(wide, basis, outer, floor)
            new = outside(grown / grown.norm(dim=1, keepdim=True).clamp_min(1e-300), basis, 1.0)
        if done or full or rounds >= limit or not len(new):
            rows = right / right.norm(dim=1, keepdim=True)
            found = (p[:, :width].T @ basis, a.products - before[0], rounds, done or full)
            return Spectrum(lam[:k].clamp_min(0).sqrt(), rows, residual, *found)


def _ratios(inner: Tensor, outer: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """Eigenvalues, descending, and vectors (columns) of the small generalised problem; all [n,n]."""
    n = len(inner)
    b = (outer + outer.T) / 2 + floor * torch.eye(n, dtype=torch.float64)
    b = b + torch.eye(n, dtype=torch.float64) * (floor - torch.linalg.eigvalsh(b)[0]).clamp_min(0)  # rounding below 0
    lam, p = scipy.linalg.eigh(((inner + inner.T) / 2).numpy(), b.numpy())
    return torch.from_numpy(lam[::-1].copy()), torch.from_numpy(p[:, ::-1].copy())


def _solved(rows: Tensor, basis: Tensor, outer: Tensor, floor: float) -> Tensor:
    """(floor·I + F'F)⁻¹ rows by Woodbury, F'F being what the basis knows of J'(1-M)²J (Nyström)."""
    small = basis @ outer.T
    lam, p = torch.linalg.eigh((small + small.T) / 2)
    keep = lam > 1e-10 * lam[-1:].clamp_min(1e-300)
    f = (p[:, keep] / lam[keep].sqrt()).T @ outer
    inverse = torch.linalg.inv(floor * torch.eye(len(f), dtype=torch.float64) + f @ f.T)
    return (rows - (rows @ f.T) @ inverse @ f) / floor
