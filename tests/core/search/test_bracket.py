"""Bracketing: the least strength, and how few tries it takes."""

import pytest
import torch

from counterlens.core.search.bracket import BracketSettings, BracketState
from counterlens.plugins.guidance.target import Target
from counterlens.plugins.searches.bracket import Bracket
from counterlens.plugins.searches.sweep import Sweep


def searched(needed, **how):
    """The state of an image that flips from a strength on: one a start, None where it never does."""
    settings = BracketSettings(**{"starts": tuple(range(len(needed))), **how})
    state = BracketState(settings, tau=0.9)
    while not state.done:
        rung = state.next
        least = needed[int(rung.skip)]
        reached = least is not None and rung.strength >= least
        state.offer(torch.tensor([rung.strength]), 0.95 if reached else min(0.8, rung.strength / 10))
        assert len(state.tried) < 30
    return state


@pytest.mark.parametrize("least", [0.03, 0.3, 0.5, 0.9, 1.7, 3.9])
def test_the_answer_is_within_the_bracket(least):
    state = searched([least], refine=5)
    assert state.reached and state.rung.strength >= least
    assert least > 0.5 / 2**5 and state.rung.strength <= 1.05 * max(least, 0.5 / 2**5)
    assert state.x0.item() == pytest.approx(state.rung.strength)


def test_doubling_then_two_halvings():
    state = searched([1.7])
    assert [t["strength"] for t in state.tried] == [0.5, 1.0, 2.0, 1.4142, 1.6818]
    assert state.rung.strength == 2.0


def test_a_later_start_that_cannot_is_left_for_an_earlier_one():
    state = searched([None, 0.9])
    assert [t["skip"] for t in state.tried] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert state.rung.skip == 1 and 0.9 <= state.rung.strength <= 1.0


def test_an_image_that_never_flips_keeps_the_try_that_came_nearest():
    state = searched([None, None], most=2.0)
    assert not state.reached and len(state.tried) == 6 and state.rung.strength == 2.0


def test_a_walk_that_went_out_of_range_is_no_answer():
    state = BracketState(BracketSettings(starts=(0.0,)), tau=0.9)
    state.offer(torch.zeros(1), float("nan"))
    assert state.tried[0]["p_target"] is None and not state.reached and state.strength == 1.0


def test_batches_do_not_change_the_answer_and_stay_full(problem):
    how = {"starts": (0.5, 0.0), "first": 0.05, "most": 3.0}
    together = Bracket(**how).run(problem(batch=8, guidance=(Target(),)).with_(tau=0.6, batch=8))
    p = problem(batch=8, guidance=(Target(),)).with_(tau=0.6, batch=3)
    small = Bracket(**how).run(p)
    assert together.strength == small.strength and together.tried == small.tried
    assert (together.x0 - small.x0).abs().max() <= 1e-4
    after = p.target_of(p.score(small.x0))
    reached = torch.tensor([any(t["p_target"] >= 0.6 for t in tries) for tries in small.tried])
    assert reached.any() and (after[reached] >= 0.6 - 1e-5).all()


def test_it_is_no_stronger_than_a_ladder_of_its_own_rungs(problem):
    p = problem(batch=4, guidance=(Target(),)).with_(tau=0.6)
    ladder = Sweep(strengths=(0.05, 0.1, 0.2, 0.4, 0.8, 1.6), skips=(0.0,)).run(p)
    found = Bracket(starts=(0.0,), first=0.05, most=1.6).run(p)
    assert all(b <= s for b, s in zip(found.strength, ladder.strength, strict=True))


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="most"):
        Bracket(first=2.0, most=1.0)
