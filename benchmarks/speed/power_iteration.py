"""Sequential power iteration for singular vectors of a network's bottleneck, as Haas et al. 2024 published it.

The reference that the spectral finder is measured against, written from the paper's description: one vector at a time,
on J J' in the space of the output, every product with J through the whole network, with deflation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.autograd import forward_ad

from counterlens.core.diffusion.module_hooks import Listener
from counterlens.core.diffusion.network import Network
from counterlens.core.diffusion.step import Step, only
from counterlens.core.h_space.decoder import AddDelta, plain_attention

HITS = 10  # small changes of the eigenvalue that are counted before it stops, as published


@dataclass
class Whole:
    """The whole network at one state, as a function of a step away from its activation ``h`` at a site."""

    net: Network
    step: Step
    site: str
    products: int = 0
    h: Tensor = field(init=False)

    def __post_init__(self) -> None:
        seen: list[Tensor] = []
        with torch.no_grad():
            self.net.estimate(self.step, [Listener(lambda h, _: seen.append(h), (self.site,))], only)
        self.h = seen[0]
        with plain_attention(), torch.enable_grad():  # one graph, kept for all products with J'
            self.delta = torch.zeros_like(self.h).requires_grad_()
            self.out = self(self.delta)

    def __call__(self, delta: Tensor) -> Tensor:
        answers: list[Tensor] = []

        def combine(branches: object, step: Step) -> Tensor:
            answers.append(only(branches, step))  # type: ignore[arg-type]
            return answers[-1]

        self.net.estimate(self.step, [AddDelta((self.site,), delta)], combine)
        return answers[-1]

    def back(self, u: Tensor) -> Tensor:
        self.products += 1
        (g,) = torch.autograd.grad(self.out, self.delta, u, retain_graph=True)
        return g

    @torch.no_grad()
    def forth(self, v: Tensor) -> Tensor:
        self.products += 1
        with forward_ad.dual_level(), plain_attention():
            tangent = forward_ad.unpack_dual(self(forward_ad.make_dual(torch.zeros_like(v), v))).tangent
        assert tangent is not None
        return tangent


def sequential(
    whole: Whole,
    k: int,
    tol: float = 1e-5,
    limit: int = 50,
    enough: Callable[[int, float], bool] | None = None,
    seed: int = 0,
) -> Tensor:
    """k singular values, one after the other; ``whole.products`` counts, and every product waits for the one before.

    Stops a vector after more than HITS changes of the eigenvalue below ``tol``, or as soon as ``enough(i, sigma)`` says
    (an oracle that knows the answer: the least that this algorithm can do).
    """
    g = torch.Generator().manual_seed(seed)
    v = torch.randn(whole.out.shape, generator=g).to(whole.out)
    v, values = v / v.norm(), []
    found: list[Tensor] = []
    for i in range(k):
        before, hits = 0.0, 0
        for _ in range(limit):
            w = off(whole.forth(whole.back(v)), found)
            size = float(w.norm())
            v, hits, before = w / size, hits + (abs(size - before) < tol), size
            if enough(i, size**0.5) if enough else hits > HITS:
                break
        values.append(before**0.5)
        found.append(v)
        # published: the next vector starts inside what is projected out; a trace of random numbers keeps it finite
        v = off(v + 1e-3 * torch.randn(v.shape, generator=g).to(v) / v.numel() ** 0.5, found)
        v = v / v.norm()
    return torch.tensor(values)


def off(w: Tensor, found: Sequence[Tensor]) -> Tensor:
    """w less what lies along the vectors already found."""
    for u in found:
        w = w - (w * u).sum() / (u * u).sum() * u
    return w
