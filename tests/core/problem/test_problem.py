"""Inverters, searches, guidance and regularizers on a tiny random pipeline."""

import pytest
import torch

from counterlens.core.images.pixels import as_saved
from counterlens.core.problem.scene import Scene
from counterlens.core.problem.view import View
from counterlens.core.search.strength_search import BestTry, LadderStep, search_ladder, walk
from counterlens.plugins.editors.clamp import Clamp
from counterlens.plugins.guidance.target import Target
from counterlens.plugins.inverters.ddim import Ddim
from counterlens.plugins.inverters.edit_friendly import EditFriendly
from counterlens.plugins.inverters.noise import Noise
from counterlens.plugins.regularizers.distance import L1Penalty, L2Penalty
from counterlens.plugins.regularizers.regions import BACKGROUND, regional
from counterlens.plugins.searches.once import Once
from counterlens.plugins.searches.per_step import PerStep
from counterlens.plugins.searches.sweep import Sweep


@pytest.mark.parametrize("eta", [1.0, 0.5, 0.0])
def test_edit_friendly_reconstructs_exactly_at_every_start(problem, eta):
    p = problem(steps=8)
    for start in range(8):
        inversion = EditFriendly(eta=eta).invert(p, start / 8)
        assert len(inversion.grid) == 9 - start
        assert (walk(p, inversion) - p.scene.x0).abs().max() <= 1e-4


def test_edit_friendly_asks_only_the_steps_that_run_and_in_few_batches(problem):
    p = problem(batch=3, steps=8).with_(batch=6)
    EditFriendly(skip=0.5).invert(p)
    meter = p.scene.net.meter
    assert meter.forward == {0: 4, 1: 4, 2: 4} and meter.calls == 2


def test_edit_friendly_does_not_depend_on_the_batch(problem):
    p = problem(batch=4)
    one = EditFriendly().invert(p.with_(batch=1))
    many = EditFriendly().invert(p.with_(batch=32))
    for a, b in zip((one.x, *one.residual), (many.x, *many.residual), strict=True):
        assert (a - b).abs().max() <= 1e-4


def test_ddim_comes_back_closer_with_more_steps(problem):
    errors = []
    for steps in (10, 40, 160):
        p = problem(steps=steps)
        errors.append(float((walk(p, Ddim().invert(p, 0.5)) - p.scene.x0).abs().mean()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.2 * errors[0]


def test_noise_starts_on_the_level(problem):
    p = problem()
    inversion = Noise(skip=0.5).invert(p)
    level = inversion.grid[0]
    rest = (inversion.x - level.a * p.scene.x0) / level.s
    assert inversion.residual is None and abs(float(rest.std()) - 1) < 0.1


@pytest.mark.parametrize("search", [PerStep(strength=0), Sweep(strengths=(0.0,)), Once()])
def test_strength_zero_is_the_identity(problem, search):
    pieces = {} if isinstance(search, Once) else {"guidance": (Target(),), "regularizers": (L2Penalty(),)}
    p = problem(**pieces)
    assert (search.run(p).x0 - p.scene.x0).abs().max() <= 1e-4


@pytest.mark.parametrize("search", [PerStep(strength=0.3), Sweep(strengths=(0.01, 0.1, 1.0), skips=(0.5, 0.0))])
def test_batch_of_eight_equals_eight_single_calls(problem, search):
    p = problem(batch=8, guidance=(Target(),))
    together = search.run(p.with_(batch=8))
    for row in range(8):
        alone = search.run(problem(batch=8, rows=[row], guidance=(Target(),)).with_(batch=1))
        assert (alone.x0[0] - together.x0[row]).abs().max() <= 1e-4
        assert alone.strength[0] == together.strength[row]


def test_order_does_not_matter(problem):
    search, order = Sweep(strengths=(0.05, 0.5)), [4, 0, 3, 1, 2]
    straight = search.run(problem(batch=5, guidance=(Target(),)))
    mixed = search.run(problem(batch=5, rows=order, guidance=(Target(),)).with_(batch=2))
    for at, row in enumerate(order):
        assert (mixed.x0[at] - straight.x0[row]).abs().max() <= 1e-4


def test_guidance_moves_toward_the_target_and_more_strength_moves_more(problem):
    p = problem(batch=4, guidance=(Target(),))
    before = p.target_of(p.score(p.scene.x0))
    weak, firm = (PerStep(strength=s).run(p).x0 for s in (0.05, 0.5))
    assert (p.target_of(p.score(weak)) > before).all()
    assert (p.target_of(p.score(firm)) > p.target_of(p.score(weak))).all()
    assert p.scene.net.meter.gradient[0] == 16


def test_guidance_through_the_network_differs_and_moves_too(problem):
    p = problem(batch=2, guidance=(Target(),))
    before = p.target_of(p.score(p.scene.x0))
    at, through = (PerStep(strength=0.2, through=how).run(p).x0 for how in ("estimate", "network"))
    assert (p.target_of(p.score(through)) > before).all() and (at - through).abs().max() > 1e-4
    assert not through.requires_grad


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


def test_progress_ends_at_its_total(problem):
    ticks = []
    p = problem(guidance=(Target(),)).with_(tick=lambda done, total: ticks.append((done, total)), tau=0.999)
    search_ladder(p, [LadderStep(0.5, s) for s in (0.0, 0.1, 0.2)], 2)
    assert ticks[-1] == (3, 3)


def view(problem, **changes) -> View:
    scene: Scene = problem(batch=2).scene
    x0 = scene.x0.clone()
    x0[0, 0, 0, 0] += 0.5
    from dataclasses import replace

    return View(x0, replace(scene, **changes))


def test_distances_by_hand(problem):
    n = 3 * 8 * 8
    assert torch.allclose(L1Penalty()(view(problem), None), torch.tensor([0.5 / n, 0]), atol=1e-7)
    assert torch.allclose(L2Penalty()(view(problem), None), torch.tensor([0.25 / n, 0]), atol=1e-7)
    assert torch.allclose(L2Penalty(space="latent")(view(problem), None), torch.tensor([0.25 / n, 0]), atol=1e-7)


def test_background_distances_are_means_over_the_background(problem):
    change = torch.ones(2, 1, 8, 8)
    change[:, :, 0] = 0  # only the first row may not change: 8 pixels of 3 channels
    seen = view(problem, change_map=change)
    assert torch.allclose(regional(L1Penalty, BACKGROUND)()(seen, None), torch.tensor([0.5 / 24, 0]), atol=1e-6)
    assert torch.allclose(regional(L2Penalty, BACKGROUND)()(seen, None), torch.tensor([0.25 / 24, 0]), atol=1e-6)
    assert torch.allclose(
        regional(L1Penalty, BACKGROUND)()(view(problem, change_map=1 - change), None), torch.zeros(2), atol=1e-7
    )


def test_target_by_hand(problem):
    seen = view(problem)
    seen.__dict__["logits"] = torch.tensor([[2.0, -1.0], [0.5, 0.0]])
    seen.scene.target.copy_(torch.tensor([1, 0]))
    p = torch.tensor([torch.sigmoid(torch.tensor(-3.0)), torch.sigmoid(torch.tensor(0.5))])
    torch.testing.assert_close(Target()(seen, None), -p.log())
    torch.testing.assert_close(Target(loss="confidence")(seen, None), 1 - p)
    torch.testing.assert_close(Target(loss="margin")(seen, None), torch.tensor([3.0, -0.5]))
    torch.testing.assert_close(Target(loss="margin", floor=0.2)(seen, None), torch.tensor([3.0, -0.2]))


def test_clamp_bounds_the_estimate(problem):
    p = problem(editors=(Clamp(limit=0.2),), inverter=Noise(skip=0.5))
    assert Once().run(p).x0.abs().max() <= 0.2 + 1e-6


def test_what_is_scored_is_what_is_saved():
    x = torch.tensor([[[[-1.3, 0.0, 0.004, 1.2]]]])
    torch.testing.assert_close(as_saved(x) * 255, torch.tensor([[[[0.0, 128.0, 128.0, 255.0]]]]))


def test_a_stored_inversion_counts_as_without_the_store(problem, tmp_path):
    """Starts share their steps: a second start costs what it adds, whether it was made, kept, or found."""
    from counterlens.core.problem.inversion_cache import Inversions
    from counterlens.core.problem.inversion_ledger import InversionLedger
    from counterlens.core.utils.tensor_cache import Cache

    skips = (0.75, 0.25, 0.5)
    plain = problem(steps=8)
    for skip in skips:
        plain.invert(skip)
    for _ in range(2):
        p = problem(steps=8).with_(inversions=InversionLedger(Inversions(Cache(tmp_path))))
        assert [len(p.invert(skip).grid) for skip in skips] == [3, 7, 5]
        assert p.scene.net.meter.forward == plain.scene.net.meter.forward == dict.fromkeys(range(3), 6)
