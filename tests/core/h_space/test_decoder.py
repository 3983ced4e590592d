"""The network behind a site: it is the network, and its derivative is its derivative."""

from dataclasses import replace

import pytest
import torch

from counterlens.core.diffusion.step import Step, only
from counterlens.core.errors import UsageError
from counterlens.core.h_space.decoder import decoder_half, plain_attention
from counterlens.core.linalg.krylov import leading
from counterlens.core.models.pool import Key
from counterlens.core.plugin.registry import load_registry
from counterlens.core.testing.tiny import tiny

torch.set_num_threads(1)
FAMILIES = ("ddpm", "stable-diffusion", "sdxl", "kandinsky22", "deepfloyd-if")
SITES = ("mid.before", "mid.middle", "mid.after", "up.0", "skip.0.1")


def guided(branches, step):
    """A guidance in which every branch counts."""
    *_, last = branches.values()
    return (next(iter(branches.values())) + last) / 2


class Shift:
    """An editor that adds a step at one site."""

    def __init__(self, site, delta):
        self.sites, self.delta = (site,), delta

    def on_activation(self, h, step):
        return h + self.delta


@pytest.fixture(scope="module", params=FAMILIES)
def setting(request, tmp_path_factory):
    folder = tiny(request.param, tmp_path_factory.mktemp("tiny") / "model")
    options = frozenset({("prior", str(folder) + "-prior")}) if request.param == "kandinsky22" else frozenset()
    pipeline = load_registry(third_party=False).family(request.param).load(Key(str(folder), options=options))
    g = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, *pipeline.size, generator=g) * 2 - 1
    with torch.no_grad():
        x0 = pipeline.encode(image)
        cond, extra = pipeline.condition(image, ["a cat"], pipeline.branches)
    grid = pipeline.grid(4)
    x = grid[1].noise(x0, torch.randn(x0.shape, generator=g))
    return pipeline, Step(1, 4, grid[1], grid[2], x, cond, (0,), extra)


def answer(pipeline, step, editors=()):
    """The combined answer of the whole network, by the engine's own hooks."""
    seen = []

    def combine(branches, at):
        seen.append(guided(branches, at))
        return seen[-1]

    with torch.no_grad(), plain_attention():
        pipeline.network().estimate(step, editors, combine)
    return seen[-1]


def repeated(step, k):
    """The same state k times."""
    cond = {name: value.repeat_interleave(k, 0) for name, value in step.cond.items()}
    extra = {b: {n: v.repeat_interleave(k, 0) for n, v in parts.items()} for b, parts in step.extra.items()}
    return replace(step, x=step.x.repeat(k, 1, 1, 1), cond=cond, extra=extra, rows=(0,) * k)


@pytest.mark.parametrize("site", SITES)
def test_behind_a_site_is_the_whole_network(setting, site):
    pipeline, step = setting
    f = decoder_half(pipeline.network(), pipeline.unet, site, step, guided)
    delta = torch.randn(3, *f.h.shape[1:], generator=torch.Generator().manual_seed(1))
    delta[2] = 0
    with torch.no_grad(), plain_attention():
        out = f(delta)
    whole = answer(pipeline, repeated(step, 3), [Shift(site, delta)])
    assert (out - whole).norm() < 1e-6 * whole.norm()
    assert (out[0] - out[2]).abs().max() > 1e-4
    assert not [m for m in pipeline.unet.modules() if "forward" in vars(m) or m._forward_hooks]


def test_d6_products_are_adjoint_and_agree_with_differences(setting):
    """Forward mode has no rule for fused attention: the reference fails on every network with attention."""
    pipeline, step = setting
    f = decoder_half(pipeline.network(), pipeline.unet, "mid.after", step, guided)
    a = f.operator()
    g = torch.Generator().manual_seed(2)
    v, u = torch.randn(3, a.d, generator=g), torch.randn(3, step.x.numel(), generator=g)
    forth, back = a.forth(v), a.adjoint(u)
    both = torch.stack([(forth * u).sum(1), (v * back).sum(1)])
    assert (both[0] - both[1]).abs().max() < 1e-5 * forth.norm(dim=1).max() * u.norm(dim=1).max()
    eps = 1e-2
    rows = v.view(3, *f.h.shape[1:])
    with torch.no_grad():
        wide, near = ((f(e * rows) - f(-e * rows)).double().flatten(1) / (2 * e) for e in (2 * eps, eps))
    scale = forth.norm()
    assert (near - forth).norm() < 1e-2 * scale
    assert (near - forth).norm() < 0.5 * (wide - forth).norm() + 1e-4 * scale  # the error falls with eps squared


def dense(f, mask=None):
    a = f.operator(mask, batch=128)
    return a.times(torch.eye(a.d)).double().T


@pytest.mark.parametrize("masked", [False, True])
def test_leading_vectors_are_those_of_a_dense_svd(setting, masked):
    pipeline, step = setting
    if pipeline.family not in ("stable-diffusion", "sdxl", "ddpm"):
        pytest.skip("a dense Jacobian of the same classes of networks")
    f = decoder_half(pipeline.network(), pipeline.unet, "mid.after", step, guided)
    mask = torch.zeros(1, 1, *step.x.shape[-2:])
    mask[..., : step.x.shape[-2] // 2, :] = 1
    mask = mask if masked else None
    _, s, vh = torch.linalg.svd(dense(f, mask), full_matrices=False)
    found = leading(f.operator(mask), 3, tol=1e-4)
    assert (found.values / s[:3] - 1).abs().max() < 1e-5
    assert (found.right * vh[:3]).sum(1).abs().min() > 0.999


def test_masks_of_ones_and_zeros_and_a_smaller_one(setting):
    pipeline, step = setting
    f = decoder_half(pipeline.network(), pipeline.unet, "mid.after", step, guided)
    one = torch.ones(1, 1, *step.x.shape[-2:])
    half = one.clone()
    half[..., 0, :] = 0
    free, full, part, none = (leading(f.operator(m), 2, tol=1e-4).values for m in (None, one, half, 0 * one))
    assert torch.equal(free, full)
    assert (part <= free * (1 + 1e-6)).all()
    assert none.tolist() == [0, 0]


def test_the_predicted_image_has_the_same_vectors_and_scaled_values(setting):
    """d x0 = -(s/a) d eps for epsilon, -s d v for velocity prediction."""
    pipeline, step = setting
    f = decoder_half(pipeline.network(), pipeline.unet, "mid.after", step, guided)
    a = f.operator()
    level, kind = step.level, pipeline.dynamics.kind
    scale = {"epsilon": level.s / level.a, "v_prediction": level.s, "sample": 1.0}[kind]
    v = torch.randn(1, a.d, generator=torch.Generator().manual_seed(3))
    rows, eps = v.view(1, *f.h.shape[1:]), 1e-2
    with torch.no_grad():
        ends = [level.split(step.x, f(e * rows), kind).x0.double() for e in (eps, -eps)]
    moved = (ends[0] - ends[1]).flatten(1) / (2 * eps)
    assert (moved + scale * a.forth(v) * (-1 if kind == "sample" else 1)).norm() < 2e-2 * moved.norm()


def test_an_unknown_site_is_refused(setting):
    pipeline, step = setting
    with pytest.raises(UsageError, match=r"it has .*mid\.after"):
        decoder_half(pipeline.network(), pipeline.unet, "mid.nowhere", step, only)
