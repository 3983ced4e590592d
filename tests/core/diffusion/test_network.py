"""A network lent for a run: questions, checkpoints."""

from dataclasses import replace

import torch

from counterlens.core.diffusion.loop import denoise, last


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
