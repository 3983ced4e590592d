"""Files of directions: whole or refused, tied to their network, site and steps."""

import pickle
from dataclasses import replace

import pytest
import torch

from counterlens.core.diffusion.sites import activation_sites, check_site
from counterlens.core.errors import UsageError
from counterlens.core.h_space.shifts import Shift, ShiftBank, ShiftSpace, joined, load_shifts


@pytest.fixture
def pipeline(problem):
    return problem().scene.resources.pipeline


def bank_of(pipeline, steps=4, site="mid.after", names=("a", "b")):
    g = torch.Generator().manual_seed(0)
    shifts = tuple(
        Shift(name, torch.randn(steps, 8, 4, 4, generator=g), "test", {"auroc": [0.5] * steps}) for name in names
    )
    norms = torch.rand(steps, generator=g)
    return ShiftBank(
        ShiftSpace.of(pipeline, site, pipeline.grid(steps)), shifts, norms, {"seed": 3}, {"scores": torch.ones(2, 5)}
    )


def test_invariant_17_a_bank_is_read_as_it_was_written(pipeline, tmp_path):
    bank = bank_of(pipeline)
    bank.save(tmp_path / "deep" / "bank.safetensors")
    again = load_shifts(tmp_path / "deep" / "bank.safetensors")
    assert again.space == bank.space and again.provenance == bank.provenance and again.names == ("a", "b")
    for one, other in zip(again.shifts, bank.shifts, strict=True):
        assert torch.equal(one.delta, other.delta) and one.about == other.about and one.kind == "test"
    assert torch.equal(again.norms, bank.norms) and torch.equal(again.extra["scores"], torch.ones(2, 5))
    assert again.check(pipeline, pipeline.grid(4), "mid.after") is again


def test_defect_d17_a_pickle_is_refused_with_one_line(tmp_path):
    path = tmp_path / "cached.pt"
    path.write_bytes(pickle.dumps({"delta_hs": [1]}))
    with pytest.raises(UsageError, match="is a pickle and is not loaded"):
        load_shifts(path)


def test_other_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match="holds no directions"):
        load_shifts(tmp_path / "x.safetensors")


def test_another_network_site_or_number_of_steps_is_refused(pipeline):
    bank = bank_of(pipeline)
    with pytest.raises(UsageError, match="another U-Net"):
        bank.with_(space=replace(bank.space, model="0" * 64)).check(pipeline, pipeline.grid(4))
    with pytest.raises(UsageError, match=r"at the site 'mid.after', not 'up.0'"):
        bank.check(pipeline, pipeline.grid(4), "up.0")
    with pytest.raises(UsageError, match=r"for 4 steps .* has 8 .*--steps 4, or --resample"):
        bank.check(pipeline, pipeline.grid(8))


def test_resampling_interpolates_over_timesteps(pipeline):
    bank = bank_of(pipeline)
    there = bank.check(pipeline, pipeline.grid(8), resample=True)
    assert there.shape == (8, 8, 4, 4) and len(there.space.timesteps) == 8
    old, new = bank.space.timesteps, there.space.timesteps
    for k, t in enumerate(old):  # a known timestep keeps its shift
        assert torch.allclose(there.shifts[0].delta[new.index(t)], bank.shifts[0].delta[k])
    half = new.index((old[0] + old[1]) / 2)
    between = (bank.shifts[0].delta[0] + bank.shifts[0].delta[1]) / 2
    assert torch.allclose(there.shifts[0].delta[half], between, atol=1e-6)
    assert torch.allclose(there.shifts[0].delta[0], bank.shifts[0].delta[0])  # beyond the ends: the nearest
    assert torch.allclose(there.resampled(old).shifts[1].delta, bank.shifts[1].delta, atol=1e-6)


def test_names(pipeline, tmp_path):
    bank = bank_of(pipeline)
    assert bank.get("1") is bank.shifts[1] and bank.only(["b"]).names == ("b",)
    with pytest.raises(UsageError, match="unknown direction 'c'"):
        bank.get("c")
    with pytest.raises(UsageError, match="two directions are called 'a'"):
        joined([bank, bank])
    assert joined([bank, bank_of(pipeline, names=("c",))]).names == ("a", "b", "c")
    with pytest.raises(UsageError, match="different networks, sites or steps"):
        joined([bank, bank_of(pipeline, site="up.0", names=("c",))])
    with pytest.raises(UsageError, match="nothing to write"):
        bank.only([]).save(tmp_path / "empty.safetensors")


def test_a_model_without_a_mid_block_is_told_which_families_have_one():
    with pytest.raises(UsageError, match=r"has no mid block, so no h-space: use a U-Net \(ddpm, ldm"):
        check_site("mid.after", activation_sites(torch.nn.Linear(1, 1)), "a transformer")
    with pytest.raises(UsageError, match=r"no activation site 'up.7'; it has mid.after, up.0"):
        check_site("up.7", ["mid.after", "up.0"])
