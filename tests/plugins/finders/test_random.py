"""The baseline, and what every finder does with its pipeline."""

import pytest
import torch

from counterlens.core.errors import UsageError
from counterlens.core.testing.tiny import tiny


def test_it_has_the_length_asked_for_in_every_step(found):
    bank = found("random components=2 length=0.3", domain="shapes")
    assert bank.names == ("random-0", "random-1") and bank.shape == (4, 64, 4, 4)
    for shift in bank.shifts:
        assert torch.allclose(shift.norms() / bank.norms, torch.full((4,), 0.3))
    cosine = torch.cosine_similarity(bank.shifts[0].delta.flatten(), bank.shifts[1].delta.flatten(), 0)
    assert abs(float(cosine)) < 0.1
    assert bank.provenance["finder"] == "random" and bank.provenance["count"] == 8


def test_it_depends_on_the_seed_alone(found):
    one, same, other = (found("random", domain="shapes", **how) for how in ({}, {"batch": 3}, {"seed": 1}))
    assert torch.allclose(one.shifts[0].delta, same.shifts[0].delta, rtol=1e-4)
    assert not torch.allclose(one.shifts[0].delta, other.shifts[0].delta)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("stable-diffusion", {"prompt": "a cat"}),
        ("sdxl", {"prompt": "a cat"}),
        ("kandinsky22", {"data": "domain:shapes?first=4"}),
        ("deepfloyd-if", {}),
        ("ddpm", {}),
        ("ldm", {}),
    ],
)
def test_every_family_is_served_at_every_kind_of_site(found, family, options, tmp_path):
    model = str(tiny(family, tmp_path / family))
    prior = {"prior": str(tmp_path / f"{family}-prior")} if family == "kandinsky22" else {}
    shapes = [
        found("random", model=model, site=site, count=2, steps=2, eta=1.0, **options, **prior).shape
        for site in ("mid.before", "skip.0.0")
    ]
    assert all(shape[0] == 2 and len(shape) == 4 for shape in shapes)


def test_what_is_missing_is_said_before_anything_is_loaded(found, tmp_path):
    with pytest.raises(UsageError, match="which pipeline"):
        found("random")
    with pytest.raises(UsageError, match=r"no activation site 'up.9'; it has down.0"):
        found("random", domain="shapes", site="up.9")
