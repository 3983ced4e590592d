"""What every family promises: batches, round trips, gradients, conditions, frozen networks, options of the key."""

from itertools import pairwise

import pytest
import torch

from counterlens.core.diffusion.levels import churn_of
from counterlens.core.diffusion.loop import denoise, last
from counterlens.core.errors import UsageError
from counterlens.core.models.pool import Key, Pool
from counterlens.plugins.combiners.cfg import Cfg

FAMILIES = {
    "stable-diffusion": {},
    "sdxl": {},
    "kandinsky22": {},
    "deepfloyd-if": {},
    "deepfloyd-if-2": {"stage": 2},
    "ddpm": {},
    "ddpm-classes": {"classes": ("disc", "square"), "null": True},
    "ldm": {},
}
PROMPTS = ("a red disc", "two cats, one dog and a very small mouse", "", "Disc")


@pytest.fixture(params=FAMILIES)
def pipeline(request, world):
    return loaded(world, request.param)


def loaded(world, name):
    family = name.removesuffix("-2").removesuffix("-classes")
    return world.load(family, name.removeprefix(family), **FAMILIES[name])


def prompts_of(pipeline):
    return ("square", "disc", "1", "0") if "class" in pipeline.branches else PROMPTS


@torch.no_grad()
def run(pipeline, image, prompts, noise):
    """Encode, noise, three steps back with guidance, decode."""
    grid, cfg = pipeline.grid(3), Cfg(scale=3 if "null" in pipeline.branches else 1)
    cond, extra = pipeline.condition(image, prompts, cfg.branches(pipeline.branches))
    x = grid[0].noise(pipeline.encode(image), noise[0])
    churn = [churn_of(now, to, pipeline.dynamics.eta) for now, to in pairwise(grid)]
    frames = denoise(pipeline.network(), x, grid, cond, combine=cfg, churn=churn, noise=noise[1:], extra=extra)
    return pipeline.decode(last(frames).x)


def test_a_batch_equals_single_calls(pipeline, draw):
    image = draw(4, 3, *pipeline.size).clamp(-1, 1)
    prompts = prompts_of(pipeline)
    noise = [draw(*pipeline.encode(image).shape) for _ in range(4)]
    together = run(pipeline, image, prompts, noise)
    alone = [run(pipeline, image[[i]], prompts[i : i + 1], [z[[i]] for z in noise]) for i in range(4)]
    assert (together - torch.cat(alone)).abs().max() <= 1e-4
    assert (together[0] - together[1]).abs().max() > 1e-2


def test_codec_round_trip_is_deterministic_with_a_gradient(pipeline, draw):
    image = draw(2, 3, *pipeline.size).clamp(-1, 1)
    x0 = pipeline.encode(image).detach().requires_grad_()
    assert x0.shape[:2] == (2, pipeline.channels)
    assert torch.equal(x0, pipeline.encode(image))
    decoded = pipeline.decode(x0)
    assert decoded.shape == image.shape
    assert decoded.dtype == torch.float32
    (gradient,) = torch.autograd.grad(decoded.square().sum(), x0)
    assert gradient.abs().flatten(1).max(1).values.min() > 0


def test_chunks_change_nothing(world, draw, monkeypatch):
    pipeline = world.load("stable-diffusion")
    x0 = draw(3, 4, 8, 8).requires_grad_()
    whole = pipeline.decode(x0)
    (one,) = torch.autograd.grad(whole.square().sum(), x0)
    monkeypatch.setattr("counterlens.plugins.families.pipelines.codec.PIXELS", 16 * 16)
    parts = pipeline.decode(x0)
    (two,) = torch.autograd.grad(parts.square().sum(), x0)
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_networks_are_frozen_and_the_empty_branch_comes_first(pipeline):
    for module in pipeline.modules.values():
        assert not module.training
        assert not any(p.requires_grad for p in module.parameters())
    assert pipeline.branches in {("free",), ("null", "text"), ("null", "image"), ("null", "class")}
    image = torch.zeros(1, 3, *pipeline.size)
    cond, _ = pipeline.condition(image, prompts_of(pipeline)[:1], pipeline.branches)
    assert tuple(cond) == pipeline.branches
    assert all(value.dtype == torch.float32 and len(value) == 1 for value in cond.values())


def test_sites_are_found(pipeline):
    net = pipeline.network()
    assert {"mid.before", "mid.middle", "mid.after", "down.0", "up.0"} <= set(net.sites)
    assert net.attention


class Halves:
    """An editor that changes every attention it is given."""

    def __init__(self, sites):
        self.attention_sites, self.seen = sites, []

    def on_attention(self, p, step):
        torch.testing.assert_close(p.sum(-1), torch.ones_like(p.sum(-1)))
        self.seen.append(p.shape)
        return p / 2


@torch.no_grad()
def test_attention_of_every_layer_can_be_changed(pipeline, draw):
    net, grid = pipeline.network(), pipeline.grid(1)
    image = draw(2, 3, *pipeline.size)
    cond, extra = pipeline.condition(image, prompts_of(pipeline)[:2], pipeline.branches)
    x, editor = draw(*pipeline.encode(image).shape), Halves(tuple(net.attention))
    mean = lambda branches, step: sum(branches.values()) / len(branches)  # noqa: E731
    plain, changed = (last(denoise(net, x, grid, cond, e, combine=mean, extra=extra)).x for e in ([], [editor]))
    assert len(editor.seen) == len(net.attention) * len(cond)
    assert all(shape[0] == 2 for shape in editor.seen)
    assert (plain - changed).abs().max() > 1e-4


def test_a_pool_lends_it_and_gets_it_back_clean(pipeline, draw):
    """A pool names whatever a first use leaves behind: hooks, modes, replaced forwards."""
    fresh = pipeline_again(pipeline)
    with Pool().lend(Key(pipeline.uri), lambda key: fresh) as lent:
        noise = [draw(*lent.encode(torch.zeros(1, 3, *lent.size)).shape) for _ in range(4)]
        run(lent, torch.zeros(1, 3, *lent.size), prompts_of(lent)[:1], noise)


def pipeline_again(pipeline):
    from counterlens.core.plugin.registry import load_registry

    return load_registry(third_party=False).family(pipeline.family).load(Key(pipeline.uri))


@pytest.mark.parametrize("family", ["stable-diffusion", "sdxl", "kandinsky22", "deepfloyd-if"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_keeps_latents_in_fp32(world, family, dtype, open_pipeline, draw):
    pipeline = open_pipeline(family, world.folder(family), dtype=dtype)
    assert str(pipeline.unet.dtype) == f"torch.{dtype}"
    if "vae" in pipeline.modules and dtype == "float16":
        assert pipeline.modules["vae"].dtype == torch.float32
    image = draw(1, 3, 16, 16).clamp(-1, 1)
    cond, extra = pipeline.condition(image, ["a"], pipeline.branches[-1:])
    x0 = pipeline.encode(image)
    out = last(denoise(pipeline.network(), x0, pipeline.grid(2), cond, extra=extra)).x
    assert out.dtype == x0.dtype == pipeline.decode(out).dtype == torch.float32
    assert out.isfinite().all()


@pytest.mark.parametrize("options", [{"offload": True}, {"tiling": True}, {"slicing": True}])
def test_options_of_the_key(world, open_pipeline, draw, options):
    plain = world.load("stable-diffusion")
    pipeline = open_pipeline("stable-diffusion", world.folder("stable-diffusion"), options=frozenset(options.items()))
    image, noise = draw(2, 3, 16, 16), [draw(2, 4, 8, 8) for _ in range(4)]
    torch.testing.assert_close(run(pipeline, image, PROMPTS[:2], noise), run(plain, image, PROMPTS[:2], noise))


def test_tiling_that_an_autoencoder_cannot_do_is_an_error(world, open_pipeline):
    with pytest.raises(UsageError, match=r"tiling: the autoencoder VQModel cannot"):
        open_pipeline("kandinsky22", world.folder("kandinsky22"), options=frozenset({("tiling", True)}))


def test_classes_by_name_number_and_not_at_all(world):
    pipeline = loaded(world, "ddpm-classes")
    image = torch.zeros(3, 3, 16, 16)
    cond, _ = pipeline.condition(image, ["disc", "square", "1"], ("null", "class"))
    assert cond["class"].flatten().tolist() == [0, 1, 1]
    assert cond["null"].flatten().tolist() == [2, 2, 2]
    with pytest.raises(UsageError, match=r"unknown class of the pipeline 'sqare': did you mean 'square'"):
        pipeline.condition(image[:1], ["sqare"], ("class",))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("offload", [False, True])
def test_on_a_gpu(world, open_pipeline, draw, dtype, offload):
    options = frozenset({("offload", True)} if offload else ())
    for name, more in FAMILIES.items():
        family = name.removesuffix("-2").removesuffix("-classes")
        folder = world.folder(family, name.removeprefix(family), **more)
        pipeline = open_pipeline(family, folder, device="cuda", dtype=dtype, options=options)
        prompts = prompts_of(pipeline)[:2]
        image = draw(2, 3, 16, 16).clamp(-1, 1)
        noise = [draw(*loaded(world, name).encode(image).shape) for _ in range(4)]
        mine = run(pipeline, image.cuda(), prompts, [z.cuda() for z in noise]).cpu()
        assert mine.isfinite().all()
        if dtype == "float32":
            assert (mine - run(loaded(world, name), image, prompts, noise)).abs().max() <= 2e-3, name
