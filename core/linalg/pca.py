"""Principal components of many long vectors: by the Gram matrix of the samples, or by a sketch that reads them once.

A sample's vector is far longer than samples are many, so the covariance [d,d] is never formed. *Gram*: the eigenvectors
of the [N,N] matrix of inner products are the scores, and only k of them are projected back. *Sketch*: the covariance is
seen through its products with r random vectors (Nyström, Tropp et al. 2017, algorithm 3), in memory independent of N.
Sums are float64. The first sample of each pair goes to one half of the data, so that stability costs no second pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import scipy.linalg
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

COLUMNS = 8192  # of the data that are float64 at a time
SMALLEST = 1e-6  # of the first singular value: below it a component is rounding


@dataclass(frozen=True)
class PrincipalComponents:
    """``rows`` [k,d] orthonormal, ``sigma`` [k] the standard deviation along each, descending, ``mean`` [d].

    ``explained`` [k] is each one's share of the variance, ``stability`` [k] the |cosine| between the two halves of the
    data, ``scores`` [n,k] the samples' coordinates (float64; of the first few samples for a sketch).
    """

    rows: Tensor
    sigma: Tensor
    mean: Tensor
    explained: Tensor
    stability: Tensor
    scores: Tensor

    def take(self, index: Sequence[int], sign: Tensor) -> PrincipalComponents:
        """These components in this order, each turned by its sign (+1 or -1)."""
        at = list(index)
        return replace(
            self,
            rows=self.rows[at] * sign[:, None].to(self.rows),
            sigma=self.sigma[at],
            explained=self.explained[at],
            stability=self.stability[at],
            scores=self.scores[:, at] * sign.to(self.scores),
        )


def gram(x: Tensor) -> Tensor:
    """Inner products [N,N] of the rows of x [N,d], in float64."""
    total = x.new_zeros(len(x), len(x), dtype=torch.float64)
    for part in x.split(COLUMNS, dim=1):
        total += part.double() @ part.double().T
    return total


def by_gram(x: Tensor, k: int) -> PrincipalComponents:
    """The k leading components of x [N,d], or as many as there are."""
    return shared([x], k)[0]


def shared(parts: Sequence[Tensor], k: int) -> list[PrincipalComponents]:
    """PCA of the concatenation of parts, [N,d] each, whose components are given part by part (not unit each).

    The scores, and so sigma, are those of the whole: one component a whole trajectory, where parts are its timesteps.
    They are read twice, one at a time.
    """
    products = sum((gram(x) for x in parts), torch.zeros((), dtype=torch.float64))
    half = torch.arange(len(products)) % 2 == 0
    whole, first, second = (Eigen.of(products, rows, k) for rows in (half | ~half, half, ~half))
    stability = _agreement(products, whole, first, second)
    sign = _signs(whole.scores())
    found = []
    for x in parts:
        mean = torch.cat([part.double().mean(0) for part in x.split(COLUMNS, dim=1)])
        a = (whole.a * sign / whole.s).T  # the eigenvectors are centred, so the mean drops out
        rows = torch.cat([a @ part.double() for part in x.split(COLUMNS, dim=1)], 1)
        spread = whole.s / (len(x) - 1) ** 0.5
        found.append(
            PrincipalComponents(
                rows=rows,
                sigma=spread,
                mean=mean,
                explained=whole.share,
                stability=stability,
                scores=whole.scores() * sign,
            )
        )
    return found


@dataclass(frozen=True)
class Eigen:
    """Eigenvectors ``a`` [n,k] of the centred Gram matrix of the samples in ``index`` and singular values ``s`` [k]."""

    index: Tensor
    a: Tensor
    s: Tensor
    share: Tensor

    @classmethod
    def of(cls, products: Tensor, chosen: Tensor, k: int) -> Eigen:
        index = torch.nonzero(chosen)[:, 0]
        centred, n = _centred(products[index][:, index]), len(index)
        top = scipy.linalg.eigh(centred.numpy(), subset_by_index=[max(0, n - k), n - 1])
        lam, a = (torch.from_numpy(part).flip(-1) for part in top)
        keep = int((lam > SMALLEST**2 * lam[0]).sum())
        total = centred.diagonal().sum().clamp_min(1e-300)
        return cls(index, a[:, :keep], lam[:keep].clamp_min(0).sqrt(), lam[:keep] / total)

    def scores(self) -> Tensor:
        return self.a * self.s


def _centred(products: Tensor) -> Tensor:
    return products - products.mean(0, keepdim=True) - products.mean(1, keepdim=True) + products.mean()


def _agreement(products: Tensor, whole: Eigen, first: Eigen, second: Eigen) -> Tensor:
    """|cosine| [k] between the components of two halves that each match a component of the whole best."""
    return paired_cosines(*(_cosines(products, *two) for two in ((whole, first), (whole, second), (first, second))))


def _cosines(products: Tensor, one: Eigen, other: Eigen) -> Tensor:
    """Cosines [k,l] between two sets of components, without forming them."""
    block = _centred(products[one.index][:, other.index])
    return (one.a / one.s).T @ block @ (other.a / other.s)


def paired_cosines(to_first: Tensor, to_second: Tensor, between: Tensor) -> Tensor:
    """|cosine| between the halves for each component of the whole, matched with each half; nan without a match."""
    out = torch.full((len(to_first),), float("nan"), dtype=torch.float64)
    first, second = (dict(zip(*_assigned(c), strict=True)) for c in (to_first, to_second))
    for j in first.keys() & second.keys():
        out[j] = between[first[j], second[j]].abs()
    return out


def _assigned(matrix: Tensor) -> tuple[list[int], list[int]]:
    """Rows and columns of the assignment with the largest sum of magnitudes (Hungarian)."""
    rows, columns = linear_sum_assignment(matrix.abs().numpy(), maximize=True)
    return rows.tolist(), columns.tolist()


def _signs(scores: Tensor) -> Tensor:
    """A sign each [k] that makes the score of the largest magnitude positive: no coordinate of a vector decides."""
    top = scores.abs().argmax(0)
    return scores[top, torch.arange(scores.shape[1])].sign()


@dataclass(frozen=True)
class Chains:
    """Component ``order[t][j]`` of timestep t, turned by ``sign[t][j]``, is the j-th direction; ``link`` [T,k] how
    much the scores correlate with those of the timestep before (1 at the first)."""

    order: Tensor
    sign: Tensor
    link: Tensor


def chained(scores: Sequence[Tensor], weight: Sequence[Tensor], k: int) -> Chains:
    """Components followed from timestep to timestep by the correlation of their scores [N,l] over the same samples.

    Vectors of different timesteps live in different activations; what the same samples score is comparable. The k
    chains of the largest mean ``weight`` [l] (share of the variance) are kept, in that order.
    """
    width = min(s.shape[1] for s in scores)
    unit = [_standardised(s) for s in scores]
    order, sign, link = [torch.arange(width)], [torch.ones(width)], [torch.ones(width)]
    for before, now in pairwise(unit):
        correlation = before[:, order[-1]].T @ now
        _, columns = _assigned(correlation)
        at = torch.tensor(columns)
        value = correlation[torch.arange(width), at]
        order.append(at)
        sign.append(sign[-1] * torch.where(value < 0, -1.0, 1.0).to(sign[-1]))
        link.append(value.abs().to(sign[-1]))
    mean = torch.stack([w[at] for w, at in zip(weight, order, strict=True)]).mean(0)
    best = mean.argsort(descending=True, stable=True)[:k]
    return Chains(*(torch.stack(rows)[:, best] for rows in (order, sign, link)))


def _standardised(scores: Tensor) -> Tensor:
    centred = scores - scores.mean(0)
    return centred / centred.norm(dim=0).clamp_min(1e-300)


class Sketch:
    """The covariance of vectors of length d, seen through r random ones, one pass; ``state`` is all that it knows.

    ``add`` takes samples in any parts: what is found does not depend on them beyond rounding.
    """

    def __init__(self, d: int, r: int, seed: int, state: dict[str, Tensor] | None = None) -> None:
        g = torch.Generator().manual_seed(seed)
        self.omega = torch.linalg.qr(torch.randn(d, min(r, d), generator=g, dtype=torch.float64)).Q
        zeros = dict(count=(2,), total=(2, d), square=(2,), y=(2, d, self.omega.shape[1]), shift=(d,))
        self.state = state or {name: torch.zeros(size, dtype=torch.float64) for name, size in zeros.items()}

    def add(self, x: Tensor) -> None:
        """The next samples [n,d]; sums are about the first ones' mean, so that no large mean eats digits."""
        s, seen = self.state, int(self.state["count"].sum())
        if not seen:
            s["shift"] = x.double().mean(0)
        x = x.double() - s["shift"]
        for half in (0, 1):
            rows = x[(half - seen) % 2 :: 2]
            s["count"][half] += len(rows)
            s["total"][half] += rows.sum(0)
            s["square"][half] += (rows**2).sum()
            s["y"][half] += rows.T @ (rows @ self.omega)

    def components(self, k: int, probes: Tensor) -> PrincipalComponents:
        """The k leading components; scores are those of ``probes`` [n,d], the first few samples."""
        count, total, square = (self.state[name].sum(0) for name in ("count", "total", "square"))
        rows, lam = self._of(self.state["y"].sum(0), count, total, k)
        halves = [self._of(self.state["y"][h], self.state["count"][h], self.state["total"][h], k)[0] for h in (0, 1)]
        stability = paired_cosines(rows @ halves[0].T, rows @ halves[1].T, halves[0] @ halves[1].T)
        mean = self.state["shift"] + total / count
        scores = (probes.double() - mean) @ rows.T
        sign, variance = _signs(scores), square - total @ total / count
        return PrincipalComponents(
            rows=rows * sign[:, None],
            sigma=(lam / (count - 1)).sqrt(),
            mean=mean,
            explained=lam / variance,
            stability=stability,
            scores=scores * sign,
        )

    def _of(self, y: Tensor, count: Tensor, total: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Orthonormal rows [≤k,d] and eigenvalues of the centred scatter matrix C, from C·Omega."""
        y = y - torch.outer(total, total @ self.omega) / count
        nu = 2.2e-16 * y.norm()
        y = y + nu * self.omega
        b = self.omega.T @ y
        low, p = torch.linalg.eigh((b + b.T) / 2)
        keep = low > 1e-14 * low[-1].clamp_min(1e-300)
        u, s, _ = torch.linalg.svd(y @ (p[:, keep] / low[keep].sqrt()), full_matrices=False)
        lam = (s**2 - nu).clamp_min(0)
        few = int((lam[:k] > SMALLEST**2 * lam[0]).sum())
        return u[:, :few].T.contiguous(), lam[:few]
