"""A ladder of strengths, rung by rung."""

import pytest
import torch

from counterlens.core.search.strength_search import BestTry, LadderStep
from counterlens.plugins.guidance.target import Target
from counterlens.plugins.searches.per_step import PerStep
from counterlens.plugins.searches.sweep import Sweep


@pytest.mark.parametrize("search", [PerStep(strength=0.3), Sweep(strengths=(0.01, 0.1, 1.0), skips=(0.5, 0.0))])
def test_batch_of_eight_equals_eight_single_calls(problem, search):
    p = problem(batch=8, guidance=(Target(),))
    together = search.run(p.with_(batch=8))
    for row in range(8):
        alone = search.run(problem(batch=8, rows=[row], guidance=(Target(),)).with_(batch=1))
        assert (alone.x0[0] - together.x0[row]).abs().max() <= 1e-4
        assert alone.strength[0] == together.strength[row]


def test_sweep_takes_the_first_rung_that_reaches_tau_and_leaves(problem):
    p = problem(batch=3, guidance=(Target(),)).with_(tau=0.6)
    found = Sweep(strengths=(0.0, 0.1, 0.3, 1.0, 3.0)).run(p)
    for row in range(3):
        tried = found.tried[row]
        assert [t["p_target"] >= 0.6 for t in tried] == [False] * (len(tried) - 1) + [True]
        assert found.strength[row] == tried[-1]["strength"]
    # inverted once (8 steps), then walked once a rung
    assert p.scene.net.meter.forward == {row: 8 + 8 * len(found.tried[row]) for row in range(3)}


def test_rungs_tried_together_do_not_change_the_answer(problem):
    one = Sweep(strengths=(0.0, 0.1, 0.3, 1.0)).run(problem(guidance=(Target(),)).with_(tau=0.6))
    two = Sweep(strengths=(0.0, 0.1, 0.3, 1.0), together=3).run(problem(guidance=(Target(),)).with_(tau=0.6))
    assert one.strength == two.strength and (one.x0 - two.x0).abs().max() <= 1e-4


def test_a_ladder_is_not_assumed_to_be_monotone():
    best = BestTry()
    x = torch.zeros(1)
    for p, strength in ((0.2, 1.0), (0.95, 2.0), (0.5, 3.0), (0.99, 4.0)):
        best.offer(x + strength, LadderStep(0, strength), p, 0.9)
    assert best.reached and best.rung.strength == 2.0 and len(best.tried) == 4


def test_an_image_that_never_reaches_tau_keeps_its_best_try():
    best = BestTry()
    for p, strength in ((0.2, 1.0), (0.7, 2.0), (0.5, 3.0)):
        best.offer(torch.tensor([strength]), LadderStep(0, strength), p, 0.9)
    assert not best.reached and best.rung.strength == 2.0
