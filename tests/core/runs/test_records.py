"""What a record says that a table of flips would hide."""

import torch

from counterlens.core.runs.records import judgement
from counterlens.core.runs.report import verdict

LABELS = ("cat", "dog")


def test_a_judge_that_had_said_the_target_before_confirms_nothing():
    cat, dog = torch.tensor([0.9, 0.1]), torch.tensor([0.2, 0.8])
    assert judgement(LABELS, cat, dog, "dog")["judge_flipped"] is True
    assert judgement(LABELS, cat, cat, "dog")["judge_flipped"] is False
    assert judgement(LABELS, dog, dog, "dog")["judge_flipped"] is None
    assert judgement(LABELS, dog, dog, "fox") == {"judge_flipped": None, "judge_before": None, "judge_after": None}


def test_only_a_change_that_is_seen_and_confirmed_is_green():
    flipped = {"flipped": True, "judge_flipped": True, "judge_before": {"cat": 0.9}}
    assert verdict(flipped) == ("flipped", "flipped, the judge agrees")
    assert verdict({**flipped, "invisible": True}) == ("doubted", "flipped, but no change can be seen")
    assert verdict({**flipped, "judge_flipped": None}) == ("doubted", "flipped, the judge had said so before")
    assert verdict({**flipped, "judge_flipped": None, "judge_before": None}) == ("flipped", "flipped")
