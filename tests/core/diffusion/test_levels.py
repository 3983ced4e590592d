"""Grids are the schedulers' own: one step of ours is one ``scheduler.step`` on random tensors, in fp32."""

from itertools import pairwise

import diffusers
import pytest
import torch

from counterlens.core.diffusion.levels import churn_of
from counterlens.core.diffusion.schedulers import dynamics_of, first_order, grid_of

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
KINDS = ("epsilon", "v_prediction", "sample")


def steps(scheduler, n, channels=3):
    """For each step: (ours, the scheduler's own) from the same x, answer and noise."""
    generator = torch.Generator().manual_seed(5)
    grid, dynamics = grid_of(scheduler, n), dynamics_of(scheduler)
    scheduler.set_timesteps(n)
    for i, (now, to) in enumerate(pairwise(grid)):
        x, z = (torch.randn(2, 3, 4, 4, generator=generator) for _ in range(2))
        out = torch.randn(2, channels, 4, 4, generator=generator)
        t = scheduler.timesteps[i]
        own = theirs(scheduler, t, x, out, z)
        scale = rescale(scheduler, i)
        scaled = x * scale[0]
        answer, raw = out[:, :3], out[:, 3:] if channels == 6 else None
        estimate = dynamics.bound(now.split(scaled, answer, dynamics.kind), scaled, now)
        estimate = type(estimate)(estimate.x0, estimate.eps, dynamics.spread(raw, now, to))
        yield estimate.at(to, churn_of(now, to, dynamics.eta), z) / scale[1], own


def theirs(scheduler, t, x, out, z):
    """``scheduler.step`` with its noise set to z."""
    module = type(scheduler).__module__
    draw = "randn_tensor"
    patch = pytest.MonkeyPatch()
    if hasattr(__import__(module, fromlist=[draw]), draw):
        patch.setattr(f"{module}.{draw}", lambda *_, **__: z)
    try:
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(x, t)
        return scheduler.step(out, t, x).prev_sample
    finally:
        patch.undo()


def rescale(scheduler, i):
    """x of ours over x of theirs, before and after the step: Euler schedulers carry x0 + sigma·eps."""
    if "Euler" not in type(scheduler).__name__ or "Flow" in type(scheduler).__name__:
        return 1.0, 1.0
    return tuple(float(1 / (scheduler.sigmas[k] ** 2 + 1) ** 0.5) for k in (i, i + 1))


def agree(scheduler, n=10, **more):
    pairs = list(steps(scheduler, n, **more))
    assert len(pairs) == n
    worst = max(((mine - own).abs().max() / own.abs().max().clamp_min(1)).item() for mine, own in pairs)
    assert worst <= 1e-4, worst


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("one", [True, False])
@pytest.mark.parametrize("clip", [True, False])
def test_ddim(kind, spacing, one, clip):
    more = {"steps_offset": 1} if spacing == "leading" else {}
    agree(
        diffusers.DDIMScheduler(
            **BETAS, prediction_type=kind, timestep_spacing=spacing, set_alpha_to_one=one, clip_sample=clip, **more
        )
    )


def test_ddim_with_leading_spacing_that_does_not_divide():
    agree(diffusers.DDIMScheduler(**BETAS, clip_sample=False, steps_offset=1), n=7)


def test_ddim_from_pure_noise():
    agree(
        diffusers.DDIMScheduler(
            **BETAS, clip_sample=False, prediction_type="v_prediction", timestep_spacing="trailing",
            rescale_betas_zero_snr=True,
        )
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_small_log", "fixed_large"])
def test_ddpm(kind, spacing, variance):
    if (spacing, variance) == ("trailing", "fixed_large"):
        pytest.skip("the scheduler leaves noise in the finished image: its last timestep is not 0; ours does not")
    agree(
        diffusers.DDPMScheduler(
            prediction_type=kind, timestep_spacing=spacing, variance_type=variance, beta_schedule="squaredcos_cap_v2"
        )
    )


@pytest.mark.parametrize("thresholding", [True, False])
def test_ddpm_with_learned_variance(thresholding):
    agree(
        diffusers.DDPMScheduler(variance_type="learned_range", thresholding=thresholding, sample_max_value=1.5),
        channels=6,
    )


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"])
def test_euler(kind, spacing, name):
    agree(getattr(diffusers, name)(**BETAS, prediction_type=kind, timestep_spacing=spacing))


@pytest.mark.parametrize("options", [{"use_karras_sigmas": True}, {"final_sigmas_type": "sigma_min"}])
def test_euler_with_other_sigmas(options):
    agree(diffusers.EulerDiscreteScheduler(**BETAS, **options))


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching(shift):
    agree(diffusers.FlowMatchEulerDiscreteScheduler(shift=shift))


@pytest.mark.parametrize(
    "name",
    [
        "PNDMScheduler",
        "DPMSolverMultistepScheduler",
        "UniPCMultistepScheduler",
        "LMSDiscreteScheduler",
        "HeunDiscreteScheduler",
        "DPMSolverSinglestepScheduler",
        "DEISMultistepScheduler",
        "KDPM2DiscreteScheduler",
    ],
)
@pytest.mark.parametrize("kind", KINDS[:2])
def test_solvers_of_higher_order_become_ddim(name, kind):
    scheduler = getattr(diffusers, name)(**BETAS, prediction_type=kind)
    grid, same = grid_of(scheduler, 10), diffusers.DDIMScheduler(**BETAS)
    assert dynamics_of(first_order(scheduler)).kind == kind
    assert dynamics_of(first_order(scheduler)).clip is None
    assert len(grid) == 11
    for level in grid[:-1]:
        abar = float(same.alphas_cumprod[int(level.t)])
        assert level.a**2 == pytest.approx(abar, abs=1e-5)
        assert level.s**2 == pytest.approx(1 - abar, abs=1e-5)
    assert all(one.s > two.s for one, two in pairwise(grid))
