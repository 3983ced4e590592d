"""One step of the walk."""

import pytest
import torch

from counterlens.core.diffusion.levels import Level
from counterlens.core.diffusion.step import Step, only


def step(now, to, i=1):
    return Step(i, 4, now, to, torch.zeros(1, 1, 1, 1), {})


def test_the_network_is_asked_at_the_noisier_end_in_both_directions():
    noisy, clean = Level(900, 0.1, 0.995), Level(100, 0.995, 0.1)
    assert step(noisy, clean).level == step(clean, noisy).level == noisy
    assert step(noisy, clean).progress == 0.25


def test_one_branch_is_the_answer_and_two_are_a_mistake():
    assert only({"cond": 3}, None) == 3
    with pytest.raises(ValueError):
        only({"null": 1, "cond": 3}, None)
