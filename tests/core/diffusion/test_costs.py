"""What a walk costs, an image at a time."""

import torch

from counterlens.core.diffusion.loop import denoise, last


def cfg(scale):
    return lambda branches, step: branches["null"] + scale * (branches["text"] - branches["null"])


def test_evaluations_are_counted_for_each_image(world):
    w = world(steps=4)
    with torch.no_grad():
        last(denoise(w.net, w.x, w.grid, w.cond, combine=cfg(2.0), rows=(3, 7)))
    assert w.net.meter.forward == {3: 8, 7: 8} and w.net.meter.calls == 4
