"""Invariants of change maps on the loop: bitwise where they can be, on many schedulers, with another map a row."""

import math
from dataclasses import replace
from functools import cache

import diffusers
import pytest
import torch

from counterlens.core.diffusion.inversion import Inversion
from counterlens.core.diffusion.levels import Estimate
from counterlens.core.diffusion.loop import denoise, last
from counterlens.core.diffusion.schedulers import FIRST_ORDER
from counterlens.core.diffusion.step import Step
from counterlens.core.search.guidance_step import GuidanceStep
from counterlens.core.search.strength_search import walk
from counterlens.plugins.editors.change_map import ChangeMap
from counterlens.plugins.guidance.target import Target
from counterlens.plugins.inverters.ddim import Ddim
from counterlens.plugins.inverters.edit_friendly import EditFriendly
from counterlens.plugins.inverters.noise import Noise

SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)
INVERTERS = (Noise(), Ddim(), EditFriendly())
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


class Blurred:
    """A pipeline whose decoder changes what it should only pass on, as autoencoders do."""

    def __init__(self, pipeline):
        self.pipeline = pipeline

    def __getattr__(self, name):
        return getattr(self.pipeline, name)

    def decode(self, x0):
        return torch.nn.functional.avg_pool2d(x0, 3, 1, 1)


@cache
def scheduler_of(name):
    """Some take a tenth of a second to make; the engine only reads them."""
    return getattr(diffusers, name)(**({} if name.startswith("FlowMatch") else BETAS))


def under(problem, scheduler="DDIMScheduler", steps=6, batch=2, **pieces):
    """A problem whose images are exact bytes, on the grid of this scheduler, behind a blurring decoder."""
    made = problem(batch, **pieces)
    pipeline = replace(made.scene.resources.pipeline, scheduler=scheduler_of(scheduler))
    image = ((made.scene.image.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    resources = replace(made.scene.resources, pipeline=Blurred(pipeline))
    scene = replace(
        made.scene, image=image, x0=image, grid=pipeline.grid(steps), net=pipeline.network(), resources=resources
    )
    return made.with_(scene=scene)


def held(problem, change, **options):
    """The same problem under a change map [B,1,8,8]."""
    return problem.with_(scene=ChangeMap(**options).lock(problem.scene, change))


def uniform(problem, keep):
    return torch.full((len(problem.scene), 1, 8, 8), 1.0 - keep)


def halves(problem):
    """Left half of the first row, upper half of the second."""
    change = torch.zeros(len(problem.scene), 1, 8, 8)
    change[0, :, :, :4], change[1:, :, :4] = 1, 1
    return change


def run(problem):
    return walk(problem, problem.invert())


each = pytest.mark.parametrize("scheduler", SCHEDULERS)
WAYS = [
    {},
    {"clock": "timestep"},
    {"clock": "step"},
    {"graded": False},
    {"reference": "noise"},
    {"reference": "image"},
    {"form": "state"},
    {"form": "state", "reference": "noise", "clock": "step"},
    {"crop": True, "context": 1.0},
]
CASES = [*((inverter, {}) for inverter in INVERTERS), *((EditFriendly(), options) for options in WAYS[1:])]


def cases(scheduler):
    """All ways where the scheduler's own step is taken; multi-step solvers lend their levels only."""
    return CASES if scheduler in FIRST_ORDER else CASES[: len(INVERTERS)]


@each
@torch.no_grad()
def test_1_a_map_of_ones_changes_nothing(problem, scheduler):
    for inverter, options in [case for case in cases(scheduler) if case != CASES[-1]]:
        free = under(problem, scheduler, steps=4, inverter=inverter)
        plain = run(free)
        assert torch.equal(run(held(free, uniform(free, 0.0), **options)), plain), options
        assert torch.equal(held(free, uniform(free, 0.0)).scene.picture(plain), free.scene.picture(plain))


@each
@torch.no_grad()
def test_2_a_map_of_zeros_gives_the_source_and_asks_nothing(problem, scheduler):
    for inverter, options in cases(scheduler):
        free = under(problem, scheduler, steps=4, inverter=inverter)
        kept = held(free, uniform(free, 1.0), **options)
        inversion = kept.invert()
        before = free.scene.net.meter.calls
        end = walk(kept, inversion)
        assert torch.equal(end, free.scene.x0), options
        assert torch.equal(kept.scene.picture(end), free.scene.image)
        if options.get("form") != "state":  # that form always runs the last step
            assert free.scene.net.meter.calls == before
        assert torch.equal(run(held(free, uniform(free, 1.0), skip=False, **options)), free.scene.x0)


@each
@torch.no_grad()
def test_3_what_a_map_keeps_is_the_source_in_each_row(problem, scheduler):
    for inverter, options in cases(scheduler):
        free = under(problem, scheduler, steps=4, inverter=inverter)
        change = halves(free)
        kept = held(free, change, **options)
        end = run(kept)
        still = (change == 0).expand_as(end)
        assert torch.equal(end[still], free.scene.x0[still]), options
        assert torch.equal(kept.scene.picture(end)[still], free.scene.image[still])
        assert (end[~still] != free.scene.x0[~still]).float().mean() > 0.5


def test_3_nothing_outside_the_feather_changes_and_it_only_goes_outward(problem):
    free = under(problem)
    kept = held(free, halves(free), feather=2)
    alpha = kept.scene.lock.alpha
    assert (alpha[halves(free) == 1] == 1).all()
    assert (alpha[0, 0, :, 4:6] > 0).all() and (alpha[0, 0, :, 6:] == 0).all()
    assert torch.equal(alpha[0, 0, :, 4], torch.full((8,), alpha[0, 0, 0, 4].item()))


def weights(lock, grid):
    n = len(grid) - 1
    return [lock.weight(Step(i, n, grid[i], grid[i + 1], lock.x0, {})) for i in range(n)]


@pytest.mark.parametrize("clock", ["noise", "timestep", "step"])
@each
def test_5_locks_are_nested_monotone_and_closed_under_min_and_max(problem, scheduler, clock):
    free, g = under(problem, scheduler, steps=9), torch.Generator().manual_seed(1)
    one, other = (torch.rand(2, 1, 8, 8, generator=g) for _ in range(2))

    def locks(change):
        return [w >= 1 for w in weights(held(free, change, clock=clock).scene.lock, free.scene.grid)]

    a, b, least, most = locks(one), locks(other), locks(one.minimum(other)), locks(one.maximum(other))
    for i in range(9):
        assert i == 0 or not (a[i] & ~a[i - 1]).any()
        assert torch.equal(least[i], a[i] | b[i]) and torch.equal(most[i], a[i] & b[i])
    assert sum(int(lock.sum()) for lock in a) > 0


@torch.no_grad()
def test_6_a_hard_ladder_has_no_more_results_than_steps(problem):
    free = under(problem, steps=4, batch=1)
    ends = {}
    for k in range(17):
        end = run(held(free, uniform(free, k / 16), clock="step", graded=False))
        ends.setdefault(math.ceil(k / 16 * 4) if k % 4 else k // 4, []).append(end)
    hard = {end.numpy().tobytes() for same in ends.values() for end in same}
    assert len(hard) <= 5
    inside = [run(held(free, uniform(free, keep), clock="step", graded=False)) for keep in (0.26, 0.4, 0.49)]
    assert torch.equal(inside[0], inside[1]) and torch.equal(inside[1], inside[2])


@torch.no_grad()
def test_6_a_graded_release_obeys_every_grey_in_four_steps(problem):
    free = under(problem, steps=4, batch=1)
    ends = [run(held(free, uniform(free, k / 16), clock="step")) for k in range(17)]
    assert len({end.numpy().tobytes() for end in ends}) == 17
    on_the_ladder = run(held(free, uniform(free, 0.5), clock="step", graded=False))
    assert torch.equal(ends[8], on_the_ladder)


@each
@torch.no_grad()
def test_7_a_uniform_map_is_a_suffix_of_the_walk(problem, scheduler):
    free = under(problem, scheduler, inverter=Noise())
    inversion = free.invert()
    first = inversion.grid[0]
    eps = (inversion.x - first.a * free.scene.x0) / first.s
    for k in (2, 4):
        x = inversion.grid[k].noise(free.scene.x0, eps)
        frames = denoise(free.scene.net, x, inversion.grid[k:], free.scene.cond, combine=free.combiner)
        suffix = last(frames).x / inversion.grid[-1].a
        assert torch.equal(run(held(free, uniform(free, k / 6), clock="step")), suffix)
        slow = run(held(free, uniform(free, k / 6), clock="step", skip=False))
        torch.testing.assert_close(slow, suffix, atol=1e-4, rtol=1e-4)


@each
@torch.no_grad()
def test_8_maps_that_agree_until_a_step_give_the_same_states_until_then(problem, scheduler):
    free = under(problem, scheduler)
    one, other = uniform(free, 0.0), uniform(free, 0.0)
    one[:, :, 4:], other[:, :, 4:] = 1 - 4 / 6, 1 - 5 / 6  # both locked below in steps 0 to 3
    states = [
        [frame.x for frame in p.frames(p.invert())]
        for p in (held(free, change, clock="step", graded=False) for change in (one, other))
    ]
    assert all(torch.equal(states[0][i], states[1][i]) for i in range(4))
    assert not torch.equal(states[0][4], states[1][4])


@each
@torch.no_grad()
def test_9_leaving_steps_out_gives_the_same_and_is_counted(problem, scheduler):
    for inverter, options in [CASES[0], CASES[1], CASES[2], (Noise(), {"form": "state"}), (Noise(), {"clock": "step"})]:
        free = under(problem, scheduler, steps=8, inverter=inverter)
        change = uniform(free, 0.62)
        quick, slow = held(free, change, **options), held(free, change, skip=False, **options)
        inversion = free.invert()
        calls = free.scene.net.meter.calls
        end = walk(quick, inversion)
        run_steps = free.scene.net.meter.calls - calls
        left = free.scene.net.meter.skipped[0]
        assert left > 0 and run_steps + left == 8
        torch.testing.assert_close(end, walk(slow, inversion), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_10_a_batch_is_what_its_images_are_alone_in_result_and_in_cost(problem):
    for options in ({}, {"crop": True}, {"form": "state"}):
        free = under(problem, "EulerDiscreteScheduler", batch=3)
        change = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(2)) * 0.7
        change[1] *= 0.5
        change[2, :, :, 3:] = 0
        together = held(free, change, **options)
        ends = run(together)
        for row in range(3):
            alone = under(problem, "EulerDiscreteScheduler", batch=3).take([row])
            alone = held(alone, change[row : row + 1], **options)
            torch.testing.assert_close(run(alone), ends[row : row + 1], atol=1e-5, rtol=1e-5)
            for counted in ("forward", "skipped"):
                mine, theirs = getattr(alone.scene.net.meter, counted), getattr(together.scene.net.meter, counted)
                assert mine[row] == theirs[row]


def test_12_guidance_does_not_reach_what_is_locked(problem):
    free = under(problem)
    lock = held(free, halves(free) * 0.7).scene.lock
    scene = replace(free.scene, lock=lock)
    steer = GuidanceStep(scene, [Target()], torch.ones(2))
    grid = scene.grid
    for i in range(6):
        step = Step(i, 6, grid[i], grid[i + 1], scene.x0, scene.cond, scene.rows)
        moved = steer.on_estimate(Estimate(scene.x0 * 0.5, scene.x0), step).x0 - scene.x0 * 0.5
        is_locked = (lock.weight(step) >= 1).expand_as(moved)
        assert (moved[is_locked] == 0).all() and is_locked.any()
        free_places = ~is_locked
        assert not free_places.any() or (moved[free_places] != 0).any()
    delta = torch.randn(2, 3, 8, 8)
    once = lock.limit(delta, 0.1)
    assert torch.equal(lock.limit(once, 0.1), once)
    assert (once[(lock.change == 0).expand_as(once)] == 0).all() and once.abs().max() <= 0.07 + 1e-7


def test_12_through_the_network_too(problem):
    free = under(problem, guidance=(Target(),))
    kept = held(free, halves(free))
    inversion = kept.invert()
    for through in ("estimate", "network"):
        end = walk(kept, inversion, through)
        still = (halves(free) == 0).expand_as(end)
        assert torch.equal(end[still], free.scene.x0[still])
        assert not torch.equal(end, walk(held(free.with_(guidance=()), halves(free)), inversion))


def test_13_mixtures_end_where_the_map_does(problem):
    free = under(problem)
    rec, edit = torch.randn(2, 3, 8, 8), torch.full((2, 3, 8, 8), 1e30)
    lock = held(free, halves(free)).scene.lock
    mixed, inside = lock.mix(rec, edit), (halves(free) == 1).expand_as(rec)
    assert torch.equal(mixed[inside], edit[inside]) and torch.equal(mixed[~inside], rec[~inside])
    none = held(free, uniform(free, 1.0)).scene.lock
    h = torch.randn(2, 16, 4, 4)
    assert (none.pooled(h) * h == 0).all() and (none.limit(h) == 0).all()
    assert torch.equal(held(free, uniform(free, 0.0)).scene.lock.limit(h), h)


class Shifted:
    """An edit of the clean estimate, as an editor of a method."""

    mixes = True

    def bind(self, scene):
        return self

    def on_estimate(self, est, step):
        return replace(est, x0=est.x0 + 0.3)


@torch.no_grad()
def test_13_an_edit_taken_by_the_map_is_the_plain_answer_at_0_and_the_edit_at_1(problem):
    """Greys that nobody locks (a start behind their release): the edit's share is the map's."""
    free = under(problem, inverter=Noise(), editors=(Shifted(),))
    plain, edited = run(free.with_(editors=())), run(free)
    assert torch.equal(run(held(free, uniform(free, 0.0), mixed=True)), edited)
    calls = free.scene.net.meter.calls
    inversion = replace(free.invert(), grid=free.scene.grid[:2])  # one step
    ends = [walk(p, inversion) for p in (free.with_(editors=()), free, held(free, uniform(free, 0.7), mixed=True))]
    lock = held(free, uniform(free, 0.7)).scene.lock
    w = lock.weight(Step(0, 1, *inversion.grid, inversion.x, {}))
    source = inversion.grid[1].noise(
        free.scene.x0, (inversion.x - inversion.grid[0].a * free.scene.x0) / inversion.grid[0].s
    )
    expected = ends[0] + 0.3 * (ends[1] - ends[0])
    expected = (1 - w) * expected + w * source / inversion.grid[1].a
    torch.testing.assert_close(ends[2], expected, atol=1e-5, rtol=1e-5)
    assert free.scene.net.meter.calls - calls == 4 and not torch.equal(plain, edited)


@torch.no_grad()
def test_a_window_is_asked_where_it_looks_and_pooled_there(problem):
    free = under(problem, batch=2)
    change = torch.zeros(2, 1, 8, 8)
    change[0, :, 1:3, 1:3], change[1, :, 5:8, 2:4] = 1, 0.5
    seen = []

    def spy(x, t, cond, extra):
        seen.append(tuple(x.shape))
        return free.scene.resources.pipeline.predict(x, t, cond, extra)

    free = free.with_(scene=replace(free.scene, net=replace(free.scene.net, predict=spy)))
    kept = held(free, change, crop=True, context=0.0, clock="step")
    inversion = free.invert()
    seen.clear()
    walk(kept, inversion)
    assert {shape[-2:] for shape in seen} == {(2, 2), (4, 2)}  # three rows are a multiple of two after all
    assert kept.take([0]).scene.lock.pooled(torch.zeros(1, 8, 1, 1)).item() == 1


@torch.no_grad()
def test_a_window_as_large_as_the_picture_is_the_picture(problem):
    free = under(problem)
    plain = run(held(free, halves(free)))
    torch.testing.assert_close(run(held(free, halves(free), crop=True, context=1.0)), plain, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_published_form_is_its_own_formula(problem):
    """State form on the step clock: at i >= 1 what keeps more than i/T is overwritten by the noised source."""
    free = under(problem, inverter=Noise(), batch=1)
    keep = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    options = {"form": "state", "clock": "step", "reference": "noise", "skip": False, "restore": False}
    mine = run(held(free, 1 - keep, **options))
    inversion, x0, net = free.invert(), free.scene.x0, free.scene.net
    grid, x = inversion.grid, inversion.x
    eps = (x - grid[0].a * x0) / grid[0].s
    keep = 1 - (1 - keep)
    for i in range(6):
        if i:
            x = torch.where(keep > i / 6 + 1e-6, grid[i].noise(x0, eps), x)
        x = last(denoise(net, x, grid[i : i + 2], free.scene.cond, combine=free.combiner)).x
    torch.testing.assert_close(mine, x / grid[-1].a, atol=1e-6, rtol=1e-6)
    assert free.scene.net.meter.calls > 0


def test_options_that_contradict_are_an_error():
    with pytest.raises(ValueError, match="form=state needs states"):
        ChangeMap(form="state", reference="image")


def test_a_lock_goes_along_when_rows_are_taken(problem):
    free = under(problem, batch=3)
    kept = held(free, torch.rand(3, 1, 8, 8)).scene
    part = kept.take([2, 0])
    for name in ("change", "keep", "x0", "image", "alpha"):
        assert torch.equal(getattr(part.lock, name), getattr(kept.lock, name)[[2, 0]])
    inversion = Inversion(free.scene.x0, kept.grid, path=(free.scene.x0,) * 2)
    assert torch.equal(inversion.take([1]).path[0], free.scene.x0[1:2])
