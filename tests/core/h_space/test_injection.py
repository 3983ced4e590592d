"""Shifts in the network: nothing at strength 0, the same by every way, two questions a step in the asymmetric form."""

from dataclasses import replace

import pytest
import torch

from counterlens.core.diffusion.levels import churn_of
from counterlens.core.diffusion.loop import denoise, last
from counterlens.core.h_space.injection import ActivationRecorder, AddShift, ReplaceActivation, weights_of
from counterlens.core.problem.scene import locked
from counterlens.plugins.inverters.ddim import Ddim

SITES = ("mid.before", "mid.middle", "mid.after", "up.0", "up.1", "skip.0.0", "skip.0.1", "skip.1.1")


def shapes_of(net, x, grid, cond, sites=SITES):
    recorder = ActivationRecorder(tuple(sites))
    with torch.no_grad():
        last(denoise(net, x, grid, cond, [recorder]))
    return recorder.stacked()


def inject(h, strength, seed=3, **how):
    """A random shift as long as the activation."""
    delta = torch.randn(h.shape, generator=torch.Generator().manual_seed(seed))
    delta = (
        delta / delta.flatten(2).norm(dim=2)[..., None, None, None] * h.flatten(2).norm(dim=2)[..., None, None, None]
    )
    how = {"weights": torch.ones(len(h)), **how}
    return AddShift(delta=delta, strength=torch.as_tensor(strength), **how)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("site", SITES)
@torch.no_grad()
def test_invariant_1_strength_zero_is_bit_equal_at_every_site_and_eta(world, site, kind):
    w = world(kind=kind, steps=4)
    cond = {"text": w.cond["text"]}
    h = shapes_of(w.net, w.x, w.grid, cond, [site])[site]
    noise = [w.draw(2, 4, 8, 8) for _ in range(4)]
    for eta in (0.0, 1.0):
        churn = [eta * churn_of(a, b) for a, b in zip(w.grid[:-1], w.grid[1:], strict=True)]

        def end(editors, churn=churn):
            return last(denoise(w.net, w.x, w.grid, cond, editors, churn=churn, noise=noise)).x

        plain = end([])
        for symmetric in (True, False):
            assert torch.equal(end([inject(h, [0.0, 0.0], site=site, symmetric=symmetric)]), plain)
        mixed = end([inject(h, [0.0, 1.0], site=site)])
        assert torch.equal(mixed[0], plain[0]) and not torch.equal(mixed[1], plain[1])


@torch.no_grad()
def test_invariant_2_the_hook_is_the_official_residual_and_the_hand_run_decoder(world):
    w = world(steps=2)
    t, cond = torch.tensor([500.0, 500.0]), w.cond["text"]
    h = shapes_of(w.net, w.x, w.grid, {"text": cond}, ["mid.after"])["mid.after"][0]
    delta = torch.randn(h.shape, generator=torch.Generator().manual_seed(0))
    handle = w.unet.mid_block.register_forward_hook(lambda m, a, out: out + delta)
    hooked = w.unet(w.x, t, encoder_hidden_states=cond).sample
    handle.remove()
    zeros = tuple(torch.zeros(1) for _ in range(4))
    official = w.unet(
        w.x,
        t,
        encoder_hidden_states=cond,
        mid_block_additional_residual=delta,
        down_block_additional_residuals=zeros,
    ).sample
    assert (hooked - official).abs().max() < 1e-6
    est = last(denoise(w.net, w.x, w.grid[:2], {"text": cond}, [_fixed(delta, h)])).estimate
    by_hand = w.grid[0].split(w.x, w.unet(
        w.x, torch.full((2,), w.grid[0].t), encoder_hidden_states=cond, mid_block_additional_residual=delta,
        down_block_additional_residuals=zeros).sample, "epsilon")  # fmt: skip
    assert (est.eps - by_hand.eps).abs().max() < 1e-6


def _fixed(delta, h):
    return AddShift(delta[None], torch.ones(len(h)), torch.ones(1), "mid.after")


@pytest.mark.parametrize("site", SITES)
@torch.no_grad()
def test_invariant_3_injecting_the_difference_is_substituting(world, site):
    w = world(steps=3)
    cond = {"text": w.cond["text"]}
    mine = shapes_of(w.net, w.x, w.grid, cond, [site])[site]
    other = shapes_of(w.net, w.draw(2, 4, 8, 8), w.grid, cond, [site])[site]
    first = (mine[:1], other[:1])
    shift = AddShift(first[1] - first[0], torch.ones(2), torch.ones(1), site)
    a = last(denoise(w.net, w.x, w.grid[:2], cond, [shift])).x
    b = last(denoise(w.net, w.x, w.grid[:2], cond, [ReplaceActivation({site: first[1]})])).x
    plain = last(denoise(w.net, w.x, w.grid[:2], cond)).x
    assert (a - b).abs().max() < 1e-5 < (a - plain).abs().max()


@torch.no_grad()
def test_invariant_15_asymmetric_costs_twice_and_shifts_the_clean_image_alone(world):
    w = world(steps=5)
    cond = {"text": w.cond["text"]}
    h = shapes_of(w.net, w.x, w.grid, cond, ["mid.after"])["mid.after"]
    calls = {}
    for symmetric in (True, False):
        net = replace(w.net, meter=type(w.net.meter)())
        last(denoise(net, w.x, w.grid, cond, [inject(h, [1.0, 1.0], site="mid.after", symmetric=symmetric)]))
        calls[symmetric] = net.meter.calls
    assert calls == {True: 5, False: 10}
    one = inject(h, [1.0, 1.0], site="mid.after", symmetric=False)
    both = next(denoise(w.net, w.x, w.grid, cond, [replace(one, symmetric=True)])).estimate
    half, plain = (next(denoise(w.net, w.x, w.grid, cond, e)).estimate for e in ([one], []))
    assert torch.equal(half.x0, both.x0) and torch.equal(half.eps, plain.eps)
    assert not torch.equal(half.x0, plain.x0)


@torch.no_grad()
def test_defect_d14_every_site_is_its_own_and_guidance_is_used(world):
    w = world(steps=2)
    seen = shapes_of(w.net, w.x, w.grid, {"text": w.cond["text"]})
    ends = [
        last(denoise(w.net, w.x, w.grid, {"text": w.cond["text"]}, [ReplaceActivation({site: 2 * seen[site]})])).x
        for site in SITES
    ]
    assert len({float(end.double().sum()) for end in ends}) == len(SITES)
    h = seen["mid.after"]

    def guided(scale, **how):
        def combine(branches, step):
            return branches["null"] + scale * (branches["text"] - branches["null"])

        return last(
            denoise(w.net, w.x, w.grid, w.cond, [inject(h, [0.3, 0.3], site="mid.after", **how)], combine=combine)
        ).x

    for symmetric in (True, False):
        assert not torch.allclose(guided(1.0, symmetric=symmetric), guided(5.0, symmetric=symmetric))
    assert not torch.equal(guided(3.0), guided(3.0, branch="text"))


def test_defect_d15_every_schedule_of_steps_can_be_reached():
    assert weights_of(4).tolist() == [1, 1, 1, 1]
    assert weights_of(4, (0, 0.5)).tolist() == [1, 1, 0, 0]
    assert weights_of(4, (0.5, 1)).tolist() == [0, 0, 1, 1]
    assert weights_of(4, schedule="rising").tolist() == [0.125, 0.375, 0.625, 0.875]
    assert weights_of(4, schedule="falling").tolist() == [0.875, 0.625, 0.375, 0.125]
    middle = weights_of(4, schedule="middle")
    assert middle[1] == middle[2] > middle[0] == middle[3] > 0


@torch.no_grad()
def test_the_cap_shortens_what_is_too_long_and_nothing_else(world):
    w = world(steps=2)
    cond = {"text": w.cond["text"]}
    h = shapes_of(w.net, w.x, w.grid, cond, ["mid.after"])["mid.after"]
    recorder = ActivationRecorder(("mid.after",))
    editors = [inject(h, [0.1, 5.0], site="mid.after", cap=0.5), recorder]
    next(denoise(w.net, w.x, w.grid, cond, editors))
    relative = (recorder.h["mid.after"][0] - h[0]).flatten(1).norm(dim=1) / h[0].flatten(1).norm(dim=1)
    assert relative.tolist() == pytest.approx([0.1, 0.5], rel=1e-4)


@torch.no_grad()
def test_a_shift_is_the_same_alone_and_in_a_batch_and_at_a_later_start(problem):
    for inverter in (Ddim(), Ddim(skip=0.5)):
        whole = problem(batch=3, inverter=inverter)
        scene = whole.scene
        h = shapes_of(scene.net, scene.x0, scene.grid, scene.cond, ["mid.after"])["mid.after"]
        shift = inject(h[:, :1], [0.5, 0.5, 0.5], site="mid.after")
        inversion = whole.invert()
        together = whole.walk(inversion, [shift])
        for row in range(3):
            alone = whole.take([row])
            one = replace(shift, strength=shift.strength[:1])
            assert torch.allclose(alone.walk(alone.invert(), [one]), together[[row]], atol=1e-5)
    step = next(whole.frames(inversion)).step
    assert shift.index(step) == 4  # of 8 steps the second half runs


@torch.no_grad()
def test_a_change_map_holds_what_is_shifted(problem):
    whole = problem(batch=2, inverter=Ddim())
    scene = whole.scene
    h = shapes_of(scene.net, scene.x0, scene.grid, scene.cond, ["up.0"])["up.0"]
    change = torch.zeros(2, 1, 8, 8)
    change[..., :4] = 1.0
    for margin in (None, 0.0):  # the whole picture, or a window around what may change
        under = whole.with_(scene=locked(scene, change, margin=margin))
        shift = inject(h, [2.0, 2.0], site="up.0", lock=under.scene.lock)
        free = whole.walk(whole.invert(), [replace(shift, lock=None)])
        end = under.walk(under.invert(), [shift])
        picture = under.scene.picture(end)
        assert torch.equal(picture[..., 4:], scene.image[..., 4:])
        assert (picture - scene.image)[..., :4].abs().max() > 1e-3
        assert (free - scene.image)[..., 4:].abs().max() > 1e-3
    half = torch.ones(2, 1, 8, 8) * 0.5
    lock = locked(scene, half).lock
    ones = torch.ones(2, 8, 4, 4)
    assert torch.allclose(lock.within(ones, ones), 0.5 * ones)
