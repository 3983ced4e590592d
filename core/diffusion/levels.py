"""Noise levels: ``x = a·x0 + s·eps``, and the two moves of every sampler, split and mix.

A network's answer, whatever its parametrisation, is *split* into ``(x0, eps)``; a step *mixes* the same two
parts again at the next level. Deterministic DDIM (Song et al. 2021, eq. 12 with sigma = 0), stochastic
DDIM/DDPM with given noise, edit-friendly reconstruction, DDIM inversion (the same grid reversed) and
rectified flow are this one formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor


def churns(grid: Sequence[Level], eta: float) -> tuple[float, ...]:
    """The fresh noise of every step of a grid (DDIM eq. 16)."""
    return tuple(float(churn_of(now, to, eta)) for now, to in pairwise(grid))


Number = float | Tensor  # one number for the batch, or a row of them: t [B], a and s [B,1,1,1]


@dataclass(frozen=True)
class Estimate:
    """What the network thinks of ``x``: the clean image and the noise in it, each [B,C,h,w] in fp32.

    ``spread`` is the model's own standard deviation of the step's noise, as a multiple of the posterior's
    (Improved DDPM's learned variance, DDPM's "fixed_large"); None means one.
    """

    x0: Tensor
    eps: Tensor
    spread: Number | None = None

    def at(self, level: Level, churn: Number = 0.0, z: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
        """Mix the parts at ``level``.

        ``churn`` is the share of the level's noise that is not kept; it comes back as fresh ``z`` [B,C,h,w], or
        as ``residual``, noise that was measured on the source and is added as it is.
        """
        kept = (_number(level.s) ** 2 - _number(churn) ** 2).clamp_min(0).sqrt()
        mean = level.a * self.x0 + _like(kept, self.eps) * self.eps
        if residual is not None:
            return mean + residual
        if z is None:
            return mean
        return mean + churn * (z if self.spread is None else self.spread * z)


@dataclass(frozen=True)
class Level:
    """One noise level, ``x = a·x0 + s·eps``, with the timestep ``t`` at which the network is asked about it."""

    t: Number
    a: Number
    s: Number

    def noise(self, x0: Tensor, eps: Tensor) -> Tensor:
        """The clean ``x0`` carried to this level by ``eps`` (both [B,C,h,w])."""
        return self.a * x0 + self.s * eps

    def split(self, x: Tensor, out: Tensor, kind: str) -> Estimate:
        """Read a network's answer ``out`` about ``x`` (both [B,C,h,w]) as clean image and noise."""
        if kind == "epsilon":
            return Estimate((x - self.s * out) / self.a, out)
        if kind == "sample":
            return Estimate(out, (x - self.a * out) / self.s)
        if kind == "v_prediction":  # v = a·eps - s·x0 (Salimans & Ho 2022)
            return Estimate(self.a * x - self.s * out, self.s * x + self.a * out)
        if kind == "flow":  # a = 1 - s, v = eps - x0 (Liu et al. 2023)
            return Estimate(x - self.s * out, x + self.a * out)
        raise ValueError(f"unknown prediction kind {kind!r}: use epsilon, sample, v_prediction or flow")

    def before(self, x: Tensor, to: Level, out: Tensor, kind: str) -> Tensor:
        """The state here whose deterministic step under the answer ``out`` ends in ``x`` at the cleaner ``to``.

        A step is linear in state and answer: ``x = p·state + q·out``. Dividing by p is the exact inverse, whatever the
        parametrisation: for v it is ``(x + sin(phi)·v)/cos(phi)``, with phi the angle between the levels.
        """
        if kind == "v_prediction":
            p, q = to.a * self.a + to.s * self.s, to.s * self.a - to.a * self.s
        elif kind == "sample":
            p, q = to.s / self.s, to.a - to.s * self.a / self.s
        elif kind == "epsilon":
            p, q = to.a / self.a, to.s - to.a * self.s / self.a
        elif kind == "flow":
            p, q = 1.0, to.s - self.s
        else:
            raise ValueError(f"unknown prediction kind {kind!r}: use epsilon, sample, v_prediction or flow")
        return x if p == 0 else (x - q * out) / p  # a clean ``to`` under ``sample`` says nothing of the noise


def rows(levels: Sequence[Level], device: Any = None) -> Level:
    """A level for each row of a batch, so that different timesteps share one network call."""
    t, a, s = (torch.tensor([getattr(x, name) for x in levels], device=device) for name in "tas")
    return Level(t, a.float().view(-1, 1, 1, 1), s.float().view(-1, 1, 1, 1))


def noisier(one: Level, other: Level) -> Level:
    """The level of the two at which the network is asked, so that inversion mirrors sampling."""
    if isinstance(one.s, Tensor) and isinstance(other.s, Tensor):
        flat = (one.s >= other.s).flatten()
        return Level(
            torch.where(flat, _number(one.t), _number(other.t)),
            torch.where(one.s >= other.s, _number(one.a), _number(other.a)),
            torch.maximum(one.s, other.s),
        )
    return one if float(one.s) >= float(other.s) else other


def churn_of(now: Level, to: Level, eta: float = 1.0) -> Number:
    """The standard deviation of a step's fresh noise (DDIM eq. 16); ``eta`` = 1 is DDPM's posterior."""
    shrink = 1 - (_number(now.a) / _number(to.a)) ** 2
    sd = eta * _number(to.s) / _number(now.s) * shrink.clamp_min(0).sqrt()
    return sd if isinstance(now.s, Tensor) else float(sd)


def _number(value: Number) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def _like(value: Tensor, other: Tensor | None) -> Tensor:
    """A schedule's number beside an image: fp32 on its device."""
    return value.float() if other is None else value.to(other.device, torch.float32)
