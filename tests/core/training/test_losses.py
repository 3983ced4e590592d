"""Losses of the parts of a pipeline."""

import torch

from counterlens.core.training.losses import contrast


def test_a_perfect_match_has_no_contrast_left_and_chance_has_log_n():
    same = torch.eye(4)
    assert float(contrast(100 * torch.eye(4), same)) < 1e-6
    assert abs(float(contrast(torch.zeros(4, 4), same)) - torch.tensor(4.0).log()) < 1e-5
