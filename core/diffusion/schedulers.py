"""Noise levels and steps read off a diffusers scheduler."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from counterlens.core.diffusion.levels import Level, _like, _number, churn_of

if TYPE_CHECKING:
    from counterlens.core.diffusion.levels import Estimate, Number


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
