"""The loop against diffusers, its hooks, and gradients through it."""

from dataclasses import replace
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


ATTENTION = "mid_block.attentions.0.transformer_blocks.0."


class Everywhere:
    """An editor with a parameter at every site."""

    sites = ("mid.before", "mid.middle", "mid.after", "up.0", "down.0")
    attention_sites = (f"{ATTENTION}attn2", f"{ATTENTION}attn1")

    def __init__(self, delta):
        self.delta = delta

    def on_latent(self, x, step):
        return x + 0.1 * self.delta[0]

    def on_condition(self, cond, step):
        return {**cond, "text": cond["text"] * (1 + self.delta[1])}

    def on_activation(self, h, step):
        return h * (1 + self.delta[2] * (1 + step.progress)) if step.branch == "text" else h

    def on_attention(self, p, step):
        return torch.softmax(p.clamp_min(1e-9).log() * (1 + self.delta[3]), -1)

    def on_estimate(self, est, step):
        return replace(est, x0=est.x0 * (1 + self.delta[4]))


def gradient(world, checkpointed):
    w = world(checkpointed=checkpointed, steps=5)
    delta = torch.zeros(5, requires_grad=True)
    out = last(denoise(w.net, w.x, w.grid, w.cond, [Everywhere(delta)], combine=cfg(3.0))).x
    (g,) = torch.autograd.grad(out.pow(2).mean(), delta)
    return g


def test_gradient_through_checkpoints_equals_the_plain_one_with_editors_at_every_site(world):
    plain, again = gradient(world, False), gradient(world, True)
    assert (plain.abs() > 1e-6).all(), "every editor must take part"
    assert ((again - plain).abs() / plain.abs().max()).max() <= 1e-5


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
def test_hooks_leave_after_every_call_and_zero_changes_nothing(world):
    w = world()
    plain = last(denoise(w.net, w.x, w.grid, w.cond, combine=cfg(2.0))).x
    zero = last(denoise(w.net, w.x, w.grid, w.cond, [Everywhere(torch.zeros(5))], combine=cfg(2.0))).x
    some = last(denoise(w.net, w.x, w.grid, w.cond, [Everywhere(torch.full((5,), 0.5))], combine=cfg(2.0))).x
    torch.testing.assert_close(plain, zero, rtol=1e-5, atol=1e-5)
    assert (plain - some).abs().max() > 1e-2
    next(denoise(w.net, w.x, w.grid, w.cond, [Everywhere(torch.ones(5))], combine=cfg(2.0)))
    assert not any(m._forward_hooks for m in w.unet.modules())
    assert not any("get_attention_scores" in vars(m) for m in w.unet.modules())
    again = last(denoise(w.net, w.x, w.grid, w.cond, combine=cfg(2.0))).x
    assert torch.equal(plain, again)


@torch.no_grad()
def test_a_question_can_be_asked_again_without_one_piece(world):
    w, asked = world(), []

    class Asymmetric(Everywhere):
        def on_estimate(self, est, step):
            asked.append(step.ask(without=self))
            return est

    editor = Asymmetric(torch.full((5,), 0.3))
    frames = list(denoise(w.net, w.x, w.grid, w.cond, [editor], combine=cfg(2.0)))
    first = denoise(w.net, frames[0].step.x, w.grid, frames[0].step.cond, combine=cfg(2.0))
    torch.testing.assert_close(asked[0].eps, next(first).estimate.eps)


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


@torch.no_grad()
def test_inversion_is_the_same_loop_backwards(world):
    """The published rule: from the cleaner latent, ask at the noisier timestep, mix again."""
    w = world(steps=10)
    w.scheduler.set_timesteps(10)
    text, x, abar = {"text": w.cond["text"]}, w.x, w.scheduler.alphas_cumprod
    for t in reversed(w.scheduler.timesteps):
        eps = w.unet(x, t, encoder_hidden_states=text["text"]).sample
        before = int(t) - 100
        a_now, a_to = (abar[before] if before >= 0 else w.scheduler.final_alpha_cumprod), abar[t]
        x = a_to**0.5 * (x - (1 - a_now) ** 0.5 * eps) / a_now**0.5 + (1 - a_to) ** 0.5 * eps
    mine = last(denoise(w.net, w.x, w.grid[::-1], text)).x
    assert (mine - x).abs().max() <= 1e-4


def test_evaluations_are_counted_for_each_image(world):
    w = world(steps=4)
    with torch.no_grad():
        last(denoise(w.net, w.x, w.grid, w.cond, combine=cfg(2.0), rows=(3, 7)))
    assert w.net.meter.forward == {3: 8, 7: 8} and w.net.meter.calls == 4


def test_an_empty_grid_is_an_error(world):
    w = world(steps=4)
    with pytest.raises(ValueError, match="two levels"):
        last(denoise(w.net, w.x, w.grid[:1], w.cond))
