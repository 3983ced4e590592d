"""The method h-space: per image, along a bank, under a map, with a cap, and what it refuses."""

import pytest
import torch

from counterlens.core.engine.prepare import prepare
from counterlens.core.engine.request import Request
from counterlens.core.errors import UsageError
from counterlens.core.h_space import gradients
from counterlens.core.h_space.shifts import Shift, ShiftBank, ShiftSpace
from counterlens.core.plugin.registry import load_registry
from counterlens.plugins.searches.h_space import HSpaceSearch
from counterlens.plugins.searches.h_space_climb import Climb, ClimbSettings

QUICK = {"method": "h-space", "steps": 8, "model": "domain:shapes/ddpm"}


@pytest.fixture
def bank(problem_of, tmp_path):
    """A bank whose second direction is, upside down, the gradient of one image; the others are chance."""

    def make(image=10, site="up.1"):
        p = problem_of(image, **QUICK)
        climb = Climb(HSpaceSearch().settings(ClimbSettings), p, site)
        slope = gradients.target_gradient(p, climb.inversion, climb._inject([0], climb.delta))
        good = gradients.steepest(slope.gradient, slope.norms)[:, 0]
        chance = torch.randn(good.shape, generator=torch.Generator().manual_seed(0))
        space = ShiftSpace.of(p.scene.resources.pipeline, site, p.scene.grid)
        shifts = (Shift("chance", chance), Shift("shape", -good))
        path = tmp_path / "bank.safetensors"
        ShiftBank(space, shifts, slope.norms[:, 0], {}).save(path)
        return str(path)

    return make


def test_it_flips_with_nothing_prepared_and_the_least_that_it_found(problem_of):
    p = problem_of(10, 12, **QUICK)
    found = HSpaceSearch(refine=2).run(p)
    probability = p.target_of(p.score(found.x0))
    assert (probability >= p.tau).all()
    for row in range(2):
        tried = found.tried[row]
        reached = [t["strength"] for t in tried if t["p_target"] >= p.tau]
        assert found.strength[row] == pytest.approx(min(reached), abs=1e-4)
        assert len(tried) < 12
    assert all(p.scene.net.meter.forward[row] > 0 for row in range(2))


def test_invariant_16_a_little_less_does_not_flip(problem_of):
    p = problem_of(12, **QUICK)
    climb = Climb(HSpaceSearch(refine=4).settings(ClimbSettings), p, "up.1")
    (row,) = climb.run()
    assert row.reached and row.short < row.strength <= 1.3 * row.short
    inject = climb._inject([0], climb.delta * (row.short / row.strength))
    with torch.no_grad():
        short = p.target_of(p.score(p.walk(climb.inversion, [inject])))
        full = p.target_of(p.score(p.walk(climb.inversion, [climb._inject([0], climb.delta)])))
    assert short < p.tau <= full == pytest.approx(row.p, abs=1e-5)


def test_images_do_not_depend_on_their_neighbours(problem_of):
    together = HSpaceSearch(refine=0, rounds=1).run(problem_of(10, 4, **QUICK))
    alone = HSpaceSearch(refine=0, rounds=1).run(problem_of(4, **QUICK))
    assert torch.allclose(together.x0[1], alone.x0[0], atol=1e-3)


def test_a_bank_is_tried_by_prediction_in_both_senses(problem_of, bank):
    path = bank(12)
    p = problem_of(12, **QUICK, directions=path)
    found = p.search.run(p)
    assert (p.target_of(p.score(found.x0)) >= p.tau).all()
    spanned = HSpaceSearch(directions=path, use="span").run(p)
    assert (p.target_of(p.score(spanned.x0)) >= p.tau).all()
    only = HSpaceSearch(directions=path, use="span", rounds=1, cap=0.01, refine=0).run(p)
    assert max(t["strength"] for t in only.tried[0]) <= 0.0101


def test_the_cap_holds_in_every_round(problem_of):
    p = problem_of(10, 4, **QUICK)
    found = HSpaceSearch(cap=0.02, reach=0.01, rounds=2).run(p)
    assert all(t["strength"] <= 0.0201 for tried in found.tried for t in tried)
    assert all(strength > 0 for strength in found.strength)  # the best try, though it does not reach


def test_it_composes_with_a_change_map_and_regularizers(problem_of):
    p = problem_of(
        10, 4, **QUICK, editors=("change-map otherwise='attribution power=0.5'",), regularizers=("l2 weight=20",)
    )
    for editor in p.editors:
        p = editor.on_problem(p)
    found = p.search.run(p)
    with torch.no_grad():
        picture = p.scene.picture(found.x0)
    kept = (p.scene.change_map == 0).expand_as(picture)
    assert kept.any() and torch.equal(picture[kept], p.scene.image[kept])
    assert (picture != p.scene.image).flatten(1).any(1).all()


def test_protected_logits_are_kept(problem_of):
    p = problem_of(10, **QUICK)
    climb = Climb(HSpaceSearch().settings(ClimbSettings), p, "up.1")
    slope = gradients.target_gradient(p, climb.inversion, climb._inject([0], climb.delta), protect=(1,))
    free = gradients.disentangled(slope.gradient, slope.protected, 0.0)
    scale = float(slope.protected.norm() * slope.gradient.norm())
    assert abs(float(gradients.predicted(slope.protected[0], free))) < 1e-4 * scale
    kept = HSpaceSearch(protect=("kiki",), ridge=0.0, rounds=1, refine=0).run(
        p
    )  # the log-odds of two classes hang together
    assert max(t["p_target"] for t in kept.tried[0]) < 0.5


@pytest.mark.parametrize("family", ["kandinsky22", "stable-diffusion"])
def test_latent_families_are_served(problem_of, family):
    p = problem_of(
        4, method="h-space", steps=4, model=f"domain:shapes/{family}", search="h-space site=up.0 rounds=1 refine=0"
    )
    before = float(p.target_of(p.score(p.scene.x0)))
    found = p.search.run(p)
    assert max(t["p_target"] for t in found.tried[0]) > before


def test_bad_input_is_said_before_anything_is_loaded(problem_of, bank, tmp_path):
    with pytest.raises(UsageError, match="takes no directions: use --method h-space"):
        prepare(Request(images=("shapes:0",), directions="x.safetensors"), load_registry(third_party=False))
    with pytest.raises(UsageError, match=r"no activation site 'up.9'"):
        HSpaceSearch(site="up.9").run(problem_of(10, **QUICK))
    path = bank()
    with pytest.raises(UsageError, match="for 8 steps"):
        HSpaceSearch(directions=path).run(problem_of(10, **{**QUICK, "steps": 6}))
    HSpaceSearch(directions=path, resample=True, rounds=1, refine=0, tries=1).run(
        problem_of(10, **{**QUICK, "steps": 6})
    )
    with pytest.raises(UsageError, match=r"at the site 'up.1', not 'up.0'"):
        HSpaceSearch(directions=path, site="up.0").run(problem_of(10, **QUICK))
    with pytest.raises(UsageError, match="another U-Net"):
        HSpaceSearch(directions=path).run(problem_of(4, **{**QUICK, "model": "domain:shapes/kandinsky22"}))
    with pytest.raises(ValueError, match="begin < end"):
        HSpaceSearch(window=(0.5, 0.2))
