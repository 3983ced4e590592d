"""Counterfactual directions: of one image, and one for all."""

import pytest
import torch

from counterlens.core.errors import UsageError


def test_an_images_own_says_where_it_is_predicted_to_flip(found):
    bank = found("counterfactual length=0.2", images=("shapes:10",), target="bouba", site="up.1", steps=4)
    (shift,) = bank.shifts
    assert shift.name == "shapes:10-bouba" and shift.about["log_odds"] < 0 < shift.about["rise_per_length"]
    length = (shift.norms() / bank.norms).square().mean().sqrt()
    assert float(length) == pytest.approx(min(0.2, shift.about["flips_at"]), rel=1e-3)
    cheap = found("counterfactual through=step", images=("shapes:10",), target="bouba", site="up.1", steps=4)
    assert float(torch.cosine_similarity(shift.delta[-1].flatten(), cheap.shifts[0].delta[-1].flatten(), 0)) > 0.99


def test_a_global_one_is_the_mean_of_many(found, tmp_path):
    bank = found("counterfactual", domain="shapes", target="kiki", site="up.1", steps=3, count=8)
    (shift,) = bank.shifts
    assert shift.name == "toward-kiki" and 0 < shift.about["agreement"] <= 1 and 1 <= shift.about["samples"] <= 8
    bank.save(tmp_path / "bank.safetensors")
    onto = f"counterfactual onto={tmp_path / 'bank.safetensors'}"
    inside = found(onto, images=("shapes:10",), target="bouba", site="up.1", steps=3)
    both = torch.cosine_similarity(inside.shifts[0].delta[-1].flatten(), shift.delta[-1].flatten(), 0)
    assert abs(float(both)) > 0.999


def test_what_is_missing_is_said(found):
    with pytest.raises(UsageError, match="toward which class"):
        found("counterfactual", domain="shapes")
    with pytest.raises(UsageError, match="leave --eta at 0"):
        found("counterfactual", domain="shapes", target="kiki", eta=1.0)
    with pytest.raises(UsageError, match="leave through=trajectory"):
        found("counterfactual through=step protect=kiki", images=("shapes:10",), target="bouba", steps=2)
