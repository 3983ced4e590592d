"""The loop against diffusers, its hooks, and gradients through it."""

from itertools import pairwise

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from counterlens.core.diffusion.levels import churn_of
from counterlens.core.diffusion.loop import denoise, last


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@torch.no_grad()
def test_equals_the_scheduler_with_guidance(world, kind):
    w = world(kind=kind, steps=10)
    w.scheduler.set_timesteps(10)
    x = w.x
    for t in w.scheduler.timesteps:
        both = torch.cat([w.cond["null"], w.cond["text"]])
        u, c = w.unet(torch.cat([x] * 2), t, encoder_hidden_states=both).sample.chunk(2)
        x = w.scheduler.step(u + 7.5 * (c - u), t, x).prev_sample
    mine = last(denoise(w.net, w.x, w.grid, w.cond, combine=cfg(7.5))).x
    assert (mine - x).abs().max() <= 1e-4


@torch.no_grad()
def test_equals_the_stochastic_scheduler_with_its_noise(world):
    w = world(steps=10)
    w.scheduler.set_timesteps(10)
    noise, text, x = [w.draw(2, 4, 8, 8) for _ in range(10)], {"text": w.cond["text"]}, w.x
    for t, z in zip(w.scheduler.timesteps, noise, strict=True):
        out = w.unet(x, t, encoder_hidden_states=text["text"]).sample
        x = w.scheduler.step(out, t, x, eta=1.0, variance_noise=z).prev_sample
    churn = [churn_of(a, b) for a, b in pairwise(w.grid)]
    mine = last(denoise(w.net, w.x, w.grid, text, churn=churn, noise=noise)).x
    assert (mine - x).abs().max() <= 1e-4


def cfg(scale):
    return lambda branches, step: branches["null"] + scale * (branches["text"] - branches["null"])


def kept_bytes(world, steps):
    """Bytes that autograd keeps for a checkpointed walk of so many steps."""
    w = world(checkpointed=True, steps=steps)
    x = w.x.clone().requires_grad_()
    seen = {}

    def pack(tensor):
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        last(denoise(w.net, x, w.grid, {"text": w.cond["text"]}))
    return sum(seen.values()), x.numel() * 4


def test_memory_grows_by_one_latent_a_step(world):
    (few, latent), (many, _) = kept_bytes(world, 4), kept_bytes(world, 12)
    # a step keeps its x, and nothing of the network; a and s are numbers
    assert (many - few) / 8 <= 1.05 * latent + 64


@torch.no_grad()
def test_order_of_editors_is_the_order_of_the_fold(world):
    w = world(steps=1)

    class Times:
        def on_latent(self, x, step):
            return x * 2

    class Plus:
        def on_latent(self, x, step):
            return x + 1

    step = next(denoise(w.net, w.x, w.grid, {"text": w.cond["text"]}, [Times(), Plus()])).step
    torch.testing.assert_close(step.x, w.x * 2 + 1)


def test_an_empty_grid_is_an_error(world):
    w = world(steps=4)
    with pytest.raises(ValueError, match="two levels"):
        last(denoise(w.net, w.x, w.grid[:1], w.cond))
