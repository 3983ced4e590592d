"""Noise levels: ``x = a·x0 + s·eps``, and the two moves of every sampler, split and mix.

A network's answer, whatever its parametrisation, is *split* into ``(x0, eps)``; a step *mixes* the same two
parts again at the next level. Deterministic DDIM (Song et al. 2021, eq. 12 with sigma = 0), stochastic
DDIM/DDPM with given noise, edit-friendly reconstruction, DDIM inversion (the same grid reversed) and
rectified flow are this one formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

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


@dataclass(frozen=True)
class Dynamics:
    """What a scheduler's configuration says besides its levels.

    ``kind``: parametrisation of the network. ``clip``/``quantile``: static or dynamic (Imagen) thresholding of
    the clean estimate, ``rederive``: whether the noise follows a clipped estimate (DDPM does, DDIM does not).
    ``eta``: the stock sampler's own stochasticity. ``variance``: ``posterior``, ``large`` or ``learned_range``.
    """

    kind: str = "epsilon"
    clip: float | None = None
    quantile: float | None = None
    rederive: bool = False
    eta: float = 0.0
    variance: str = "posterior"

    def bound(self, est: Estimate, x: Tensor, now: Level) -> Estimate:
        """Clip the clean estimate as the scheduler would."""
        if self.clip is None:
            return est
        x0 = _dynamic(est.x0, self.quantile, self.clip) if self.quantile else est.x0.clamp(-self.clip, self.clip)
        noisy = bool(_number(now.s).min() > 0)  # inversion begins where there is no noise to read off
        return replace(est, x0=x0, eps=(x - now.a * x0) / now.s if self.rederive and noisy else est.eps)

    def spread(self, raw: Tensor | None, now: Level, to: Level) -> Number | None:
        """Standard deviation of the step's noise over the posterior's, [B,C,h,w] or a number."""
        if self.variance == "posterior" or float(_number(to.s).max()) == 0:
            return None
        posterior = churn_of(now, to) ** 2  # beta tilde (DDPM eq. 7)
        beta = 1 - (_number(now.a) / _number(to.a)) ** 2
        large = beta / _number(posterior).clamp_min(1e-20)
        if self.variance == "large":
            return _like(large.sqrt(), now.s if isinstance(now.s, Tensor) else raw)
        share = (raw + 1) / 2 if raw is not None else torch.tensor(0.0)  # Improved DDPM eq. 15
        return (0.5 * share * _like(large.log(), raw)).exp()


def dynamics_of(scheduler: Any) -> Dynamics:
    """The dynamics of a diffusers scheduler, from its class and configuration."""
    config, name = scheduler.config, type(scheduler).__name__
    if name.startswith("FlowMatch"):
        return Dynamics(kind="flow")
    ddpm = name == "DDPMScheduler"
    dynamic = bool(config.get("thresholding", False))
    clips = name in ("DDPMScheduler", "DDIMScheduler") and (config.get("clip_sample", False) or dynamic)
    limit = config.get("sample_max_value", 1.0) if dynamic else config.get("clip_sample_range", 1.0)
    variances = {"fixed_large": "large", "learned_range": "learned_range"}
    return Dynamics(
        kind=config.get("prediction_type", "epsilon"),
        clip=float(limit) if clips else None,
        quantile=config.get("dynamic_thresholding_ratio", 0.995) if dynamic else None,
        rederive=ddpm,
        eta=1.0 if ddpm or name == "EulerAncestralDiscreteScheduler" else 0.0,
        variance=variances.get(config.get("variance_type", ""), "posterior") if ddpm else "posterior",
    )


FIRST_ORDER = (
    "DDIMScheduler",
    "DDPMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
)


def first_order(scheduler: Any) -> Any:
    """A fresh scheduler whose step is one mix: multi-step solvers keep their noise levels, with DDIM's step."""
    if type(scheduler).__name__ in FIRST_ORDER:
        return type(scheduler).from_config(scheduler.config)
    from diffusers import DDIMScheduler

    return DDIMScheduler.from_config(scheduler.config, clip_sample=False)


def grid_of(scheduler: Any, n: int) -> tuple[Level, ...]:
    """The ``n + 1`` levels of an ``n``-step trajectory, noisiest first, read off the scheduler's own arithmetic.

    ``a`` and ``s`` are what its ``add_noise``/``scale_noise`` (then ``scale_model_input``) make of (1, 0) and (0, 1).
    A step ends at the level of the next one. diffusers' DDIM does the same where its timesteps are T/n apart; with
    ``linspace``, or ``trailing`` and an n that does not divide T, it steps to t - T//n, slightly off the level it asks
    about next.
    """
    scheduler = first_order(scheduler)
    scheduler.set_timesteps(n)
    levels = [_probe(scheduler, t) for t in scheduler.timesteps]
    return (*levels, _last(scheduler))


def _probe(scheduler: Any, t: Tensor) -> Level:
    one, none = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    add = getattr(scheduler, "scale_noise", None) or _add_noise(scheduler)
    if hasattr(scheduler, "_step_index"):
        scheduler._step_index = None  # scale_model_input looks its sigma up by t
    scale = getattr(scheduler, "scale_model_input", lambda x, _t: x)
    flow = type(scheduler).__name__.startswith("FlowMatch")
    a, s = ((add(x, t.reshape(1), z) if flow else scale(add(x, z, t), t)).item() for x, z in ((one, none), (none, one)))
    return Level(float(t), a, s)


def _add_noise(scheduler: Any) -> Any:
    return lambda x0, noise, t: scheduler.add_noise(x0, noise, t.reshape(1))


def _last(scheduler: Any) -> Level:
    """Where the trajectory ends: clean, unless the scheduler keeps a little noise."""
    if "Euler" in type(scheduler).__name__:
        sigma = float(scheduler.sigmas[-1])
        if type(scheduler).__name__.startswith("FlowMatch"):
            return Level(0.0, 1 - sigma, sigma)
        return Level(0.0, (sigma**2 + 1) ** -0.5, sigma * (sigma**2 + 1) ** -0.5)
    abar = getattr(scheduler, "final_alpha_cumprod", None)
    a2 = float(abar) if abar is not None else 1.0
    return Level(0.0, a2**0.5, (1 - a2) ** 0.5)


def _dynamic(x0: Tensor, quantile: float, limit: float) -> Tensor:
    """Imagen's dynamic thresholding (Saharia et al. 2022, section 2.3), a row at a time."""
    s = torch.quantile(x0.flatten(1).abs().float(), quantile, dim=1).clamp(1.0, limit).view(-1, 1, 1, 1)
    return x0.clamp(-s, s) / s


def _number(value: Number) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def _like(value: Tensor, other: Tensor | None) -> Tensor:
    """A schedule's number beside an image: fp32 on its device."""
    return value.float() if other is None else value.to(other.device, torch.float32)
