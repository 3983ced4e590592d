"""A step towards noise is the exact inverse of the step back, whatever the network's parametrisation."""

import pytest
import torch

from counterlens.core.diffusion.levels import Level

NOISY, CLEAN = Level(400.0, 0.8, 0.6), Level(300.0, 0.9, 0.19**0.5)
FLOW = Level(400.0, 0.4, 0.6), Level(300.0, 0.7, 0.3)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction", "flow"])
def test_before_undoes_a_step(kind):
    now, to = FLOW if kind == "flow" else (NOISY, CLEAN)
    x, out = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    there = now.split(x, out, kind).at(to)
    assert torch.allclose(now.before(there, to, out, kind), x, atol=1e-10)


def test_v_prediction_is_a_rotation():
    x, v = torch.tensor(0.3, dtype=torch.float64), torch.tensor(-0.2, dtype=torch.float64)
    sine = CLEAN.a * NOISY.s - CLEAN.s * NOISY.a
    cosine = CLEAN.a * NOISY.a + CLEAN.s * NOISY.s
    assert torch.allclose(NOISY.before(x, CLEAN, v, "v_prediction"), (x + sine * v) / cosine)


def test_a_clean_end_says_nothing_of_the_noise_of_a_network_that_predicts_samples():
    x = torch.randn(1, 3, 4, 4)
    assert torch.equal(NOISY.before(x, Level(0.0, 1.0, 0.0), x, "sample"), x)


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="unknown prediction kind"):
        NOISY.before(torch.zeros(1), CLEAN, torch.zeros(1), "score")


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_inversion_and_walk_come_back_when_the_answer_does_not_depend_on_the_state(world, kind):
    """A network that always says the same: then nothing is approximated, and what is left is the arithmetic."""
    from dataclasses import replace

    from counterlens.core.diffusion.loop import denoise, last

    w = world(steps=10, kind=kind)
    said = w.draw(2, 4, 8, 8)
    net = replace(w.net, predict=lambda x, t, cond, extra: said)
    text = {"text": w.cond["text"]}
    noisy = last(denoise(net, w.x, w.grid[::-1], text)).x
    back = last(denoise(net, noisy, w.grid, text)).x
    assert (back - w.x).abs().max() <= 1e-3 and float(noisy.std()) > 0.3
