"""Pictures of directions, arithmetic, names out of changes, and what is measured of a site."""

from contextlib import ExitStack

import pytest
import torch

from counterlens.core.errors import UsageError
from counterlens.core.h_space import gradients
from counterlens.core.h_space.apply import cells, combined_shift, named_shifts, terms_of
from counterlens.core.h_space.injection import AddShift
from counterlens.core.h_space.job import FindRequest
from counterlens.core.h_space.shifts import Shift, ShiftBank, ShiftSpace
from counterlens.core.plugin.registry import load_registry
from counterlens.core.workflows.find_directions import open_job

REGISTRY = load_registry(third_party=False)
NEEDS = {"mid-block": "this test", "labels": "this test"}


@pytest.fixture(scope="module")
def job():
    with ExitStack() as stack:
        images = tuple(f"shapes:{k}" for k in (2, 3, 4, 5, 6, 10, 12, 13))
        quest = FindRequest(images=images, steps=4, inverter="edit-friendly")
        yield stack.enter_context(open_job(REGISTRY, quest, NEEDS))


@pytest.fixture(scope="module")
def bank(job):
    """Toward kiki by the gradient of one image, and by chance."""
    p = job.problem.take([1])  # shapes:3, a bouba
    inversion = p.invert(0.0)
    zero = gradients.zeros(p, "up.1", inversion)
    slope = gradients.target_gradient(p, inversion, AddShift(zero, torch.ones(1), torch.ones(4), "up.1"))
    v = gradients.steepest(slope.gradient, slope.norms)[:, 0]
    chance = torch.randn(v.shape, generator=torch.Generator().manual_seed(0)) * v.std()
    space = ShiftSpace.of(job.pipeline, "up.1", job.grid)
    return ShiftBank(space, (Shift("a", 0.2 * v), Shift("b", 0.2 * chance)), slope.norms[:, 0])


def test_every_image_direction_window_and_strength_is_shown_once(job, bank):
    small = FindRequest(images=("shapes:3", "shapes:10"), steps=4, inverter="edit-friendly", batch=3)
    with ExitStack() as stack:
        few = stack.enter_context(open_job(REGISTRY, small, NEEDS))
        found = list(cells(few, bank, (0.0, 1.0, -1.0), ((0.0, 1.0), (0.5, 1.0))))
    keys = {(c.image, c.direction, c.window, c.strength) for c in found}
    assert len(found) == len(keys) == 2 * 2 * 2 * 3
    for c in found:
        assert c.picture.shape == (3, 32, 32) and float(c.p.sum()) == pytest.approx(1, abs=1e-5)
        assert c.l1 < 0.003 if c.strength == 0 else c.l1 > 0
    toward = {
        c.strength: float(c.p[1]) for c in found if c.image == "shapes:3" and c.direction == "a" and c.window[0] == 0
    }
    assert toward[1.0] > toward[0.0] >= toward[-1.0] - 1e-3


def test_names_say_what_changes(job, bank):
    with ExitStack() as stack:
        few = stack.enter_context(
            open_job(REGISTRY, FindRequest(images=("shapes:3",), steps=4, inverter="edit-friendly"), NEEDS)
        )
        new = named_shifts(few, bank.only(["a"]), 1.0)
    assert new.names == ("kiki",)
    about = new.shifts[0].about
    assert about["was"] == "a" and about["rise"] > 0 > about["rises"]["bouba"]
    upside_down = bank.with_(shifts=(Shift("a", -bank.shifts[0].delta),))
    with ExitStack() as stack:
        few = stack.enter_context(
            open_job(REGISTRY, FindRequest(images=("shapes:3",), steps=4, inverter="edit-friendly"), NEEDS)
        )
        assert named_shifts(few, upside_down, 1.0).names == ("bouba",)


def test_arithmetic(bank):
    a, b = (shift.delta for shift in bank.shifts)
    assert torch.allclose(combined_shift(bank, "n", terms_of("a*2,b*-0.5")).delta, 2 * a - 0.5 * b)
    assert torch.equal(combined_shift(bank, "n", terms_of("a*-1")).delta, -a)
    rest = combined_shift(bank, "n", terms_of("a"), ["b"])
    assert abs(float(torch.cosine_similarity(rest.delta.flatten(), b.flatten(), 0))) < 1e-6
    with pytest.raises(UsageError, match="nothing is left of 'n'"):
        combined_shift(bank, "n", terms_of("a*3"), ["a"])
    with pytest.raises(UsageError, match="write NAME or NAME"):
        terms_of("a*x")
    with pytest.raises(UsageError, match="unknown direction 'c'"):
        combined_shift(bank, "n", terms_of("c"))
