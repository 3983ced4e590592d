"""Gradients in h-space against differences, predictions that are exact where everything is linear, projections."""

from dataclasses import replace

import pytest
import torch

from counterlens.core.classifiers.log_odds import log_odds, log_odds_at
from counterlens.core.diffusion.sites import Site
from counterlens.core.h_space import gradients
from counterlens.core.h_space.injection import AddShift
from counterlens.plugins.inverters.ddim import Ddim
from counterlens.plugins.inverters.edit_friendly import EditFriendly
from counterlens.plugins.regularizers.distance import L2Penalty


def injected(delta, site, **how):
    return AddShift(delta, torch.ones(delta.shape[1]), torch.ones(len(delta)), site, **how)


def margin_at(p, inversion, delta, site, clamp=False, **how):
    """Of the picture as it is: gradients pass its clamping straight through, and the classifier here is linear."""
    with torch.no_grad():
        picture = p.scene.picture(p.walk(inversion, [injected(delta, site, **how)]))
        logits = p.scene.resources.classifier.logits((picture.clamp(-1, 1) if clamp else picture) / 2 + 0.5)
        return log_odds(logits, p.scene.target)


@pytest.mark.parametrize("site", ["mid.before", "mid.after", "up.0", "skip.0.1"])
@pytest.mark.parametrize("inverter", [Ddim(), EditFriendly(skip=0.4)])
def test_the_gradient_is_that_of_differences(problem, site, inverter):
    p = problem(batch=2, steps=5, inverter=inverter)
    inversion = p.invert()
    zero = gradients.zeros(p, site, inversion)
    slope = gradients.target_gradient(p, inversion, injected(zero, site))
    assert torch.allclose(slope.margin, margin_at(p, inversion, zero, site, clamp=True), atol=1e-5)
    v = gradients.steepest(slope.gradient, slope.norms)
    assert torch.allclose(gradients.relative(v, slope.norms), torch.ones(2))
    eps = 1e-2
    up, down = (margin_at(p, inversion, s * eps * v, site) for s in (1, -1))
    assert torch.allclose((up - down) / (2 * eps), gradients.predicted(slope.gradient, v), rtol=2e-2)
    skipped = 5 - (len(inversion.grid) - 1)
    assert (slope.norms[:skipped] == 0).all() and (slope.norms[skipped:] > 0).all()
    assert (slope.gradient[:skipped] == 0).all()


def test_the_same_alone_and_together_and_every_evaluation_is_counted(problem):
    p = problem(batch=3, steps=4, inverter=Ddim())
    inversion = p.invert()
    before = dict(p.scene.net.meter.forward)
    slope = gradients.target_gradient(p, inversion, injected(gradients.zeros(p, "up.0", inversion), "up.0"))
    one = p.take([1])
    alone = gradients.target_gradient(one, one.invert(), injected(gradients.zeros(one, "up.0", one.invert()), "up.0"))
    assert torch.allclose(slope.gradient[:, [1]], alone.gradient, atol=1e-6)
    assert p.scene.net.meter.forward[0] - before[0] == 4 and p.scene.net.meter.gradient[0] == 1


def test_regularizers_take_part_and_logits_can_be_protected(problem):
    p = problem(batch=2, steps=4, inverter=Ddim())
    inversion = p.invert()
    shift = injected(0.1 * torch.ones_like(gradients.zeros(p, "up.0", inversion)), "up.0")
    plain = gradients.target_gradient(p, inversion, shift, protect=(0,))
    held = gradients.target_gradient(p.with_(regularizers=(L2Penalty(weight=100.0),)), inversion, shift)
    assert not torch.allclose(plain.gradient, held.gradient) and torch.allclose(plain.margin, held.margin)
    assert plain.protected.shape == (1, *plain.gradient.shape)


def test_the_asymmetric_form_and_the_gradient_of_single_steps(problem):
    p = problem(batch=2, steps=4, inverter=Ddim())
    inversion = p.invert()
    zero = gradients.zeros(p, "mid.after", inversion)
    for how in ({}, {"symmetric": False}):
        inject = injected(zero + 0.05, "mid.after", **how)
        slope = gradients.target_gradient(p, inversion, inject)
        v = gradients.steepest(slope.gradient, slope.norms)
        up, down = (margin_at(p, inversion, zero + 0.05 + s * 1e-2 * v, "mid.after", **how) for s in (1, -1))
        assert torch.allclose((up - down) / 2e-2, gradients.predicted(slope.gradient, v), rtol=2e-2)
        assert slope.norms.shape == (4, 2) and (slope.norms > 0).all()
    steps = gradients.target_gradient(p, inversion, injected(zero, "mid.after"), through="step")
    last = gradients.target_gradient(p, inversion, injected(zero, "mid.after")).gradient[-1]
    assert torch.allclose(steps.gradient[-1], last, atol=1e-5)  # nothing comes after the last step
    assert (steps.gradient.flatten(2).norm(dim=2) > 0).all()


class Linear(torch.nn.Module):
    """A network that is linear in its activation: eps = x/2 + M h, with h = M'x."""

    def __init__(self):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.inside = torch.nn.Conv2d(3, 4, 1, bias=False)
        self.out = torch.nn.Conv2d(4, 3, 1, bias=False)
        self.inside.load_state_dict({"weight": 0.1 * torch.randn(4, 3, 1, 1, generator=g)})
        self.out.load_state_dict({"weight": 0.1 * torch.randn(3, 4, 1, 1, generator=g)})


def test_invariant_16_gamma0_is_exact_for_a_linear_decoder_and_classifier(problem):
    net = Linear()
    p = problem(batch=2, steps=4, inverter=Ddim())
    linear = replace(
        p.scene.net,
        predict=lambda x, t, cond, extra: 0.5 * x + net.out(net.inside(x)),
        sites={"mid.after": Site(net.inside)},
    )
    p = p.with_(scene=replace(p.scene, net=linear))
    inversion = p.invert()
    zero = gradients.zeros(p, "mid.after", inversion)
    slope = gradients.target_gradient(p, inversion, injected(zero, "mid.after"))
    v = gradients.steepest(slope.gradient, slope.norms)
    for tau in (0.5, 0.6):
        gamma = (log_odds_at(tau) - slope.margin) / gradients.predicted(slope.gradient, v)
        reached = margin_at(p, inversion, gamma.view(1, -1, 1, 1, 1) * v, "mid.after")
        assert torch.allclose(reached, torch.full((2,), log_odds_at(tau)), atol=1e-4)


def test_log_odds_say_when_a_probability_is_reached():
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    target = torch.arange(50) % 4
    p = logits.softmax(1).gather(1, target[:, None])[:, 0]
    assert torch.allclose(torch.sigmoid(log_odds(logits, target)), p, atol=1e-6)
    assert log_odds_at(0.5) == 0 and torch.sigmoid(torch.tensor(log_odds_at(0.9))).item() == pytest.approx(0.9)


def test_invariant_9_projection():
    g = torch.Generator().manual_seed(0)
    v, c = torch.randn(300, generator=g), torch.randn(4, 300, generator=g)
    c[1] = 0.96 * c[0] + 0.05 * c[1]  # nearly parallel conditions, where one after the other fails
    p = gradients.projected_out(v, c)
    assert gradients.cosines(p, c).abs().max() < 1e-6
    assert torch.allclose(gradients.projected_out(p, c), p, atol=1e-5)
    again = torch.stack([7 * c[2], c[0], -0.1 * c[1], c[3], c[0], c[0] + c[3]])
    assert torch.allclose(gradients.projected_out(v, again), p, atol=1e-4)
    inside = c.T @ torch.randn(4, generator=g)
    assert gradients.projected_out(inside, c).norm() < 1e-5 * inside.norm()
    assert torch.allclose(gradients.projected_on(v, c) + p, v, atol=1e-5)
    w = v.clone()  # one after the other, without making the conditions orthogonal: the reference's other way
    for n in c:
        w = w - (w @ n) / (n @ n) * n
    assert gradients.cosines(w, c).abs().max() > 1e-3
    softly = gradients.projected_out(v, c, ridge=0.1)
    assert 1e-4 < gradients.cosines(softly, c).abs().max() < gradients.cosines(v, c).abs().max() + 1


def test_a_bank_is_ranked_by_change_for_its_length():
    g = torch.Generator().manual_seed(0)
    gradient, norms = torch.randn(3, 2, 4, 2, 2, generator=g), torch.ones(3, 2)
    random = torch.randn(5, 3, 4, 2, 2, generator=g)
    deltas = torch.cat([random, gradient[:, 0][None] * -100])
    value = gradients.ranking(gradient, norms, deltas)
    assert value.shape == (6, 2) and value[:, 0].abs().argmax() == 5 and value[5, 0] < 0
    assert torch.allclose(value, gradients.ranking(gradient, norms, 13 * deltas))
