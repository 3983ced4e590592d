"""Samples with generators of their own, and the activations of real images along their inversion."""

import math

import pytest
import torch

from counterlens.core.diffusion.levels import Estimate
from counterlens.core.diffusion.loop import denoise
from counterlens.core.h_space.recording import Noises, draw, inverted, sampled, scene_without_target
from counterlens.core.utils.seeds import key
from counterlens.plugins.combiners.cfg import Cfg
from counterlens.plugins.inverters.ddim import Ddim
from counterlens.plugins.inverters.edit_friendly import EditFriendly

SITES = ("mid.after", "up.0")


@pytest.fixture
def scene(problem):
    pipeline = problem().scene.resources.pipeline

    def make(n, steps=4):
        return scene_without_target(pipeline, None, torch.zeros(n, 3, 8, 8), pipeline.grid(steps), range(n), Cfg())

    return make


def test_defect_d1_and_invariant_10_samples_are_distinct_and_the_global_state_is_left_alone(scene):
    before = torch.get_rng_state()
    batch = sampled(scene(64, 2), SITES, range(64), seed=42, combiner=Cfg(), eta=1.0)
    assert torch.equal(torch.get_rng_state(), before)
    assert len({tuple(x.flatten().tolist()) for x in batch.path[0]}) == 64
    assert len({key(42, n, "start") for n in range(100_000)}) == 100_000


def test_defect_d2_the_noise_of_steps_is_that_of_no_start(scene):
    starts = [draw(seed, [n], "start", (3, 8, 8))[0] for seed in range(4) for n in range(4)]
    numbers = tuple(range(4))
    steps = [z for seed in range(4) for i in range(3) for z in Noises(seed, numbers, torch.zeros(4, 3, 8, 8))[i]]
    every = torch.stack([*starts, *steps]).flatten(1)
    correlation = torch.corrcoef(every) - torch.eye(len(every))
    assert correlation.abs().max() < 5 / math.sqrt(every.shape[1])


def test_invariant_12_a_sample_does_not_depend_on_its_batch(scene):
    for eta in (0.0, 1.0):
        many = sampled(scene(8), SITES, range(8), 1, Cfg(), eta)
        one = sampled(scene(1), SITES, [5], 1, Cfg(), eta)
        assert torch.allclose(many.x0[5], one.x0[0], atol=1e-5)
        for site in SITES:
            assert torch.allclose(many.h[site][:, 5], one.h[site][:, 0], atol=1e-5)


def test_defect_d3_and_invariant_13_the_path_is_the_one_that_the_network_was_asked_about(scene):
    at = scene(2)
    batch = sampled(at, SITES, [0, 1], 1, Cfg(), 1.0)
    assert batch.path.shape == (5, 2, 3, 8, 8) and batch.h["up.0"].shape[:2] == (4, 2)
    again = sampled(at, SITES, [0, 1], 1, Cfg(), 1.0)
    assert torch.equal(batch.path, again.path)
    asked = [frame.step.x for frame in _walk(at, batch)]
    assert all(torch.equal(a, b) for a, b in zip(asked, batch.path[:-1], strict=True))


def _walk(scene, batch):
    from counterlens.core.diffusion.levels import churns

    noise = Noises(1, batch.numbers, scene.x0)
    with torch.no_grad():
        yield from denoise(
            scene.net,
            batch.path[0],
            scene.grid,
            scene.cond,
            churn=churns(scene.grid, 1.0),
            noise=noise,
            rows=scene.rows,
        )


class Bent:
    """A network whose answer depends smoothly on x and t, so that inversion has something to miss."""

    def __init__(self, base):
        self.base = base

    def __getattr__(self, name):
        return getattr(self.base, name)

    def estimate(self, step, editors, combine, without=None):
        level = step.level
        out = 0.1 * torch.sin(3 * step.x) + 0.05 * step.x * float(level.t) / 1000
        est = step.now.split(step.x, out, "epsilon")
        return Estimate(est.x0, est.eps)


def test_defect_d7_ddim_inversion_stops_at_the_level_where_decoding_starts(problem):
    from dataclasses import replace

    errors = []
    for steps in (10, 50, 200):
        p = problem(batch=2, steps=steps, inverter=Ddim())
        p = p.with_(scene=replace(p.scene, net=Bent(p.scene.net)))
        inversion = p.invert()
        assert inversion.grid == p.scene.grid and len(inversion.path) == steps + 1
        with torch.no_grad():
            errors.append(float((p.walk(inversion) - p.scene.x0).abs().mean()))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.1 * errors[0]


@pytest.mark.parametrize("eta", [1.0, 0.5, 0.1])
def test_defects_d8_and_d9_and_invariant_11_inversion_is_exact_at_every_eta_and_stride(problem, eta):
    for steps in (3, 8, 20):
        p = problem(batch=2, steps=steps, inverter=EditFriendly(eta=eta))
        with torch.no_grad():
            assert (p.walk(p.invert()) - p.scene.x0).abs().max() < 1e-4


def test_real_images_are_recorded_on_the_way_that_an_edit_takes(problem):
    p = problem(batch=2, steps=4, inverter=EditFriendly())
    batch = inverted(p, SITES)
    assert torch.allclose(batch.x0, p.scene.x0, atol=1e-4) and batch.h["mid.after"].shape[:2] == (4, 2)
    source = p.invert(0.0)
    assert torch.allclose(batch.path[2], source.path[2], atol=1e-4)
    alone = inverted(p.take([1]), SITES)
    assert torch.allclose(alone.h["up.0"][:, 0], batch.h["up.0"][:, 1], atol=1e-4)
    assert batch.numbers == (0, 1)
