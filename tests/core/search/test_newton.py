"""Newton steps in the network's own uncertainty, on a network whose posterior is known: images are Gaussian."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from counterlens.core.classifiers.classifier import Classifier
from counterlens.core.classifiers.log_odds import log_odds, log_odds_at
from counterlens.core.diffusion.levels import Level, rows
from counterlens.core.search.newton import NewtonSettings, goal_of, search_newton
from counterlens.core.search.posterior_step import PosteriorStep
from counterlens.plugins.guidance.target import Target
from counterlens.plugins.regularizers.distance import L2Penalty
from counterlens.plugins.searches.newton import Newton

SPREAD = torch.zeros(1, 3, 8, 8)  # variance of the images a pixel: the lower half never changes
SPREAD[:, :, :4] = 0.25


def gaussian(p):
    """The problem with the exact denoiser of independent Gaussian pixels of mean 0 and variance SPREAD."""
    levels = {round(float(level.t)): level for level in p.scene.grid[:-1]}

    def predict(x, t, cond, extra):
        level = rows([levels[round(float(one))] for one in t])  # an inversion asks about many levels at once
        x0 = SPREAD * level.a / (level.a**2 * SPREAD + level.s**2) * x
        return (x - level.a * x0) / level.s

    image = torch.where(SPREAD > 0, p.scene.image, torch.zeros(()))
    return p.with_(scene=replace(p.scene, net=replace(p.scene.net, predict=predict), image=image, x0=image))


def scaled(p, factor):
    """The problem with the classifier's logits multiplied."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = p.scene.resources.classifier.modules["classifier"]

        def forward(self, x):
            return factor * self.inner(x)

    old = p.scene.resources.classifier
    resources = replace(p.scene.resources, classifier=Classifier.of(Scaled(), old.contract, "python:scaled"))
    return p.with_(scene=replace(p.scene, resources=resources))


def one_step(p, goal, limit, energies=()):
    """The editor after one step from the middle of the trajectory, the estimates before and after, and the level."""
    editor = PosteriorStep(p.scene, goal, limit, energies)
    start = p.invert(0.5)
    before = next(p.frames(start)).estimate
    with torch.enable_grad():
        after = next(p.frames(start, [editor])).estimate
    return editor, before.x0.detach(), after.x0, start.grid[0]


def test_a_move_follows_the_posterior_and_is_as_long_as_it_says(problem):
    p = gaussian(problem(batch=2, guidance=(Target(),)))
    goal = torch.full((2,), 3.0)
    editor, before, after, level = one_step(p, goal, limit=1e6)
    covariance = SPREAD * level.s**2 / (level.a**2 * SPREAD + level.s**2)
    x0 = before.clone().requires_grad_()
    (g,) = torch.autograd.grad(log_odds(p.scene.resources.classifier.logits(x0 / 2 + 0.5), p.scene.target).sum(), x0)
    need = goal - log_odds(p.scene.resources.classifier.logits(before / 2 + 0.5), p.scene.target)
    variance = (covariance * g * g).flatten(1).sum(1)
    expected = (need / variance).view(-1, 1, 1, 1) * covariance * g
    assert torch.allclose(after - before, expected, atol=1e-4)
    assert torch.allclose(editor.moved, need / variance.sqrt(), rtol=1e-3)
    assert (after - before)[:, :, 4:].abs().max() == 0  # what the network is certain of
    margin = log_odds(p.scene.resources.classifier.logits(after / 2 + 0.5), p.scene.target)
    assert torch.allclose(margin, goal, atol=1e-3)  # the classifier is linear: one step is enough


def test_the_limit_is_in_standard_deviations_for_each_unit_of_noise(problem):
    p = gaussian(problem(batch=2, guidance=(Target(),)))
    editor, *_ = one_step(p, torch.full((2,), 50.0), limit=3.0)
    start = p.invert(0.5)
    assert torch.allclose(editor.moved, torch.full((2,), 3.0 * float(start.grid[0].s - start.grid[1].s)), rtol=1e-4)


def test_rows_that_are_there_stay(problem):
    p = gaussian(problem(batch=2, guidance=(Target(),)))
    editor, before, after, _ = one_step(p, torch.tensor([-50.0, 3.0]), limit=1e6)
    assert torch.equal(after[0], before[0]) and editor.moved[0] == 0 < editor.moved[1]
    _, before, after, _ = one_step(p, torch.tensor([-50.0, -50.0]), limit=1e6)
    assert torch.equal(after, before)


@pytest.mark.parametrize("steps", [8, 20, 40])
def test_it_flips_from_the_latest_start_and_says_how_far(problem, steps):
    p = gaussian(problem(batch=4, steps=steps, guidance=(Target(),)))
    found = Newton().run(p)
    after = p.target_of(p.score(found.x0))
    assert (after >= p.tau).all() and all(tries[0]["skip"] == 0.5 for tries in found.tried)
    assert all(0.5 < strength < 50 for strength in found.strength)
    assert (found.x0 - p.scene.x0)[:, :, 4:].abs().max() <= 1e-4


def test_strength_means_the_same_for_logits_ten_times_as_large_and_for_twice_the_steps(problem):
    plain = gaussian(problem(batch=4, steps=20, guidance=(Target(),)))
    search = Newton(firmness=1.0, margin=1.0)
    firm = scaled(plain, 4.0)  # so that the source's firmness, not tau, decides the goal
    one, ten = (torch.tensor(search.run(p).strength) for p in (firm, scaled(firm, 10.0)))
    fine = gaussian(problem(batch=4, steps=40, guidance=(Target(),)))
    twice = torch.tensor(search.run(scaled(fine, 4.0)).strength)
    assert ((ten / one).log().abs() < torch.tensor(1.5).log()).all()
    assert ((twice / one).log().abs() < torch.tensor(1.5).log()).all()


def test_the_goal_is_the_source_s_firmness_or_less_doubt_than_tau_allows(problem):
    p = problem(batch=2, guidance=(Target(),))
    source = log_odds(p.scene.resources.classifier.logits(p.scene.image / 2 + 0.5), p.scene.source)
    assert torch.allclose(goal_of(scaled(p, 1000.0), 0.7, 10.0), 700 * source, rtol=1e-4)
    assert torch.allclose(goal_of(p, 0.0, 10.0), torch.full((2,), log_odds_at(0.99)), atol=1e-5)


def test_images_do_not_depend_on_their_neighbours(problem):
    p = gaussian(problem(batch=4, guidance=(Target(),)))
    together = Newton().run(p)
    for row in range(4):
        alone = Newton().run(gaussian(problem(batch=4, rows=[row], guidance=(Target(),))).with_(batch=1))
        assert (alone.x0[0] - together.x0[row]).abs().max() <= 1e-4


def test_costs_are_counted(problem):
    p = gaussian(problem(batch=2, steps=8, guidance=(Target(),)))
    Newton(starts=(0.5,)).run(p)
    meter = p.scene.net.meter
    assert meter.forward[0] == 8 and 1 <= meter.gradient[0] <= 4 and meter.backward[0] == meter.gradient[0]


def test_an_image_that_cannot_flip_keeps_its_best_try(problem):
    p = gaussian(problem(batch=2, steps=8, guidance=(Target(),)))
    found = search_newton(p, NewtonSettings(starts=(0.5, 0.0), limit=1e-6))
    assert all(len(tries) == 2 for tries in found.tried) and torch.isfinite(found.x0).all()


def test_a_regularizer_bends_the_move(problem):
    plain = gaussian(problem(batch=2, guidance=(Target(),)))
    bent = gaussian(problem(batch=2, guidance=(Target(),), regularizers=(L2Penalty(weight=50.0),)))
    assert Newton().energies(plain) == () and len(Newton().energies(bent)) == 2
    assert (Newton().run(plain).x0 - Newton().run(bent).x0).abs().max() > 1e-3


def test_a_start_without_signal_gives_numbers(problem):
    p = gaussian(problem(batch=1, guidance=(Target(),)))
    editor = PosteriorStep(p.scene, torch.tensor([3.0]), 80.0)
    now, to = Level(999.0, 0.0, 1.0), Level(900.0, 0.1, 0.995)
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    from counterlens.core.diffusion.levels import Estimate
    from counterlens.core.diffusion.step import Step

    editor.asked = x
    est = editor.on_estimate(Estimate(x * 0.0 + 0.1, x), Step(0, 1, now, to, x, p.scene.cond, (0,)))
    assert torch.isfinite(est.x0).all()
