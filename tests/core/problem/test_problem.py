"""Inverters, searches, guidance and regularizers on a tiny random pipeline."""

import pytest

from counterlens.core.search.strength_search import LadderStep, search_ladder, walk
from counterlens.plugins.editors.clamp import Clamp
from counterlens.plugins.guidance.target import Target
from counterlens.plugins.inverters.ddim import Ddim
from counterlens.plugins.inverters.edit_friendly import EditFriendly
from counterlens.plugins.inverters.noise import Noise
from counterlens.plugins.regularizers.distance import L2Penalty
from counterlens.plugins.searches.once import Once
from counterlens.plugins.searches.per_step import PerStep
from counterlens.plugins.searches.sweep import Sweep


@pytest.mark.parametrize("eta", [1.0, 0.5, 0.0])
def test_edit_friendly_reconstructs_exactly_at_every_start(problem, eta):
    p = problem(steps=8)
    for start in range(8):
        inversion = EditFriendly(eta=eta).invert(p, start / 8)
        assert len(inversion.grid) == 9 - start
        assert (walk(p, inversion) - p.scene.x0).abs().max() <= 1e-4


def test_edit_friendly_asks_only_the_steps_that_run_and_in_few_batches(problem):
    p = problem(batch=3, steps=8).with_(batch=6)
    EditFriendly(skip=0.5).invert(p)
    meter = p.scene.net.meter
    assert meter.forward == {0: 4, 1: 4, 2: 4} and meter.calls == 2


def test_edit_friendly_does_not_depend_on_the_batch(problem):
    p = problem(batch=4)
    one = EditFriendly().invert(p.with_(batch=1))
    many = EditFriendly().invert(p.with_(batch=32))
    for a, b in zip((one.x, *one.residual), (many.x, *many.residual), strict=True):
        assert (a - b).abs().max() <= 1e-4


def test_ddim_comes_back_closer_with_more_steps(problem):
    errors = []
    for steps in (10, 40, 160):
        p = problem(steps=steps)
        errors.append(float((walk(p, Ddim().invert(p, 0.5)) - p.scene.x0).abs().mean()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.2 * errors[0]


def test_noise_starts_on_the_level(problem):
    p = problem()
    inversion = Noise(skip=0.5).invert(p)
    level = inversion.grid[0]
    rest = (inversion.x - level.a * p.scene.x0) / level.s
    assert inversion.residual is None and abs(float(rest.std()) - 1) < 0.1


@pytest.mark.parametrize("search", [PerStep(strength=0), Sweep(strengths=(0.0,)), Once()])
def test_strength_zero_is_the_identity(problem, search):
    pieces = {} if isinstance(search, Once) else {"guidance": (Target(),), "regularizers": (L2Penalty(),)}
    p = problem(**pieces)
    assert (search.run(p).x0 - p.scene.x0).abs().max() <= 1e-4


def test_order_does_not_matter(problem):
    search, order = Sweep(strengths=(0.05, 0.5)), [4, 0, 3, 1, 2]
    straight = search.run(problem(batch=5, guidance=(Target(),)))
    mixed = search.run(problem(batch=5, rows=order, guidance=(Target(),)).with_(batch=2))
    for at, row in enumerate(order):
        assert (mixed.x0[at] - straight.x0[row]).abs().max() <= 1e-4


def test_progress_ends_at_its_total(problem):
    ticks = []
    p = problem(guidance=(Target(),)).with_(tick=lambda done, total: ticks.append((done, total)), tau=0.999)
    search_ladder(p, [LadderStep(0.5, s) for s in (0.0, 0.1, 0.2)], 2)
    assert ticks[-1] == (3, 3)


def test_clamp_bounds_the_estimate(problem):
    p = problem(editors=(Clamp(limit=0.2),), inverter=Noise(skip=0.5))
    assert Once().run(p).x0.abs().max() <= 0.2 + 1e-6
