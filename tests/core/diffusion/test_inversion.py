"""Inversion is the loop backwards."""

import torch

from counterlens.core.diffusion.loop import denoise, last


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
