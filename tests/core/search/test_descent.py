"""Descent through the sampler: its gradients against plain ones, its batches, its ends."""

from dataclasses import replace

import pytest
import torch

from counterlens.core.errors import UsageError
from counterlens.core.problem.inversion_ledger import InversionLedger
from counterlens.core.problem.scene import locked
from counterlens.core.problem.view import View
from counterlens.core.search.descent import evaluate
from counterlens.core.search.descent_variables import DescentSettings, Variables, variables_of
from counterlens.core.search.guidance_step import total
from counterlens.plugins.combiners.cfg import Cfg
from counterlens.plugins.guidance.target import Target
from counterlens.plugins.inverters.ddim import Ddim
from counterlens.plugins.inverters.noise import Noise
from counterlens.plugins.regularizers.distance import L2Penalty
from counterlens.plugins.searches.descent import Descent

ENERGIES = {"guidance": (Target(),), "regularizers": (L2Penalty(weight=3.0),)}


def world_problem(problem, world, batch=2, steps=5, **pieces):
    """The scene of ``problem`` on a conditional network with two branches; its first three channels are the image."""
    w = world(batch, steps)
    p = problem(batch=batch, steps=steps, **{**ENERGIES, "inverter": Noise(), "combiner": Cfg(scale=3), **pieces})
    scene = replace(p.scene, net=w.net, cond=w.cond, grid=w.grid, x0=w.draw(batch, 4, 8, 8) / 2)
    object.__setattr__(scene.resources, "pipeline", Three(scene.resources.pipeline))
    return p.with_(scene=scene)


class Three:
    """A pipeline whose decoder shows the first three of four channels."""

    def __init__(self, pipeline):
        self.unet = pipeline.unet

    def decode(self, x0):
        return x0[:, :3] / 2


def plain_gradient(p, inversion, variables, last=3):
    """Autograd through the whole loop, written out without the engine."""
    scene, x = p.scene, inversion.x + torch.cat([v.start for v in variables])
    estimates = []
    for i, (now, to) in enumerate(zip(inversion.grid[:-1], inversion.grid[1:], strict=True)):
        cond = {b: c + torch.stack([v.cond[b][i] for v in variables]) for b, c in scene.cond.items()}
        t = torch.full((len(x),), now.t)
        out = {b: scene.net.predict(x, t, c, {}) for b, c in cond.items()}
        eps = out["null"] + 3 * (out["text"] - out["null"])
        x0 = (x - now.s * eps) / now.a
        estimates.append(x0)
        x = to.a * x0 + to.s * eps
    estimates[-1] = x / inversion.grid[-1].a
    loss = sum(
        (k + 1) / (last * (last + 1) / 2) * total(p.energies, View(e, scene), None)
        for k, e in enumerate(estimates[-last:])
    )
    return torch.autograd.grad(loss.sum(), [t for v in variables for t in v.tensors()])


def engine_gradient(p, inversion, variables, **how):
    from counterlens.core.search.descent_variables import DescentState

    courses = [DescentState(v) for v in variables]
    evaluate(p, inversion, courses, DescentSettings(torch.optim.Adam, **how), 0, False)
    return [t.grad.clone() for v in variables for t in v.tensors()], courses


def some_variables(p, inversion):
    torch.manual_seed(3)
    variables = variables_of(p.scene, inversion, ("start", "conditions", "nulls"))
    for v in variables:
        for t in v.tensors():
            t.data = 0.1 * torch.randn_like(t)
    return variables


def relative(a, b):
    a, b = (torch.cat([t.flatten() for t in ts]) for ts in (a, b))
    return float((a - b).norm() / b.norm())


def cosine(a, b):
    a, b = (torch.cat([t.flatten() for t in ts]) for ts in (a, b))
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


@pytest.mark.parametrize("checkpoint", [True, False])
def test_the_gradient_of_the_whole_loop_is_the_plain_one(problem, world, checkpoint):
    p = world_problem(problem, world)
    inversion = p.invert()
    variables = some_variables(p, inversion)
    found, _ = engine_gradient(p, inversion, variables, checkpoint=checkpoint)
    assert relative(found, plain_gradient(p, inversion, variables)) <= 1e-5


def test_truncated_to_all_steps_is_full_and_to_one_moves_one_condition(problem, world):
    p = world_problem(problem, world)
    inversion = p.invert()
    variables = some_variables(p, inversion)
    full, _ = engine_gradient(p, inversion, variables)
    for v in variables:
        for t in v.tensors():
            t.grad = None
    whole, _ = engine_gradient(p, inversion, variables, gradient="truncated", truncated=5)
    assert relative(whole, full) <= 1e-6
    for v in variables:
        for t in v.tensors():
            t.grad = None
    evaluate_one = DescentSettings(torch.optim.Adam, gradient="truncated", truncated=1)
    from counterlens.core.search.descent_variables import DescentState

    evaluate(p, inversion, [DescentState(v) for v in variables], evaluate_one, 0, False)
    for v in variables:
        assert v.start.grad is None
        assert v.cond["text"].grad[:-1].abs().max() == 0 < v.cond["text"].grad[-1].abs().max()


def test_shortcut_is_exact_for_the_last_step_and_points_along_the_full_gradient(problem, world):
    p = world_problem(problem, world).with_(batch=4)  # questions of two steps share a call
    inversion = p.invert()
    variables = some_variables(p, inversion)
    full, _ = engine_gradient(p, inversion, variables)
    for v in variables:
        for t in v.tensors():
            t.grad = None
    short, _ = engine_gradient(p, inversion, variables, gradient="shortcut")
    for a, b in zip(short, full, strict=True):
        assert a.shape == b.shape
        if a.ndim == 3:  # a condition [n,T,D]: nothing comes after the last step
            assert torch.allclose(a[-1], b[-1], rtol=1e-4, atol=1e-8)
    assert cosine(short, full) > 0.9


def test_shortcut_equals_full_where_answers_do_not_depend_on_states(problem, world):
    p = world_problem(problem, world)
    net, w = p.scene.net, torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    constant = replace(net, predict=lambda x, t, cond, extra: (cond.mean(1) @ w)[:, :, None, None] + 0 * x.detach())
    p = p.with_(scene=replace(p.scene, net=constant))
    inversion = p.invert()
    variables = some_variables(p, inversion)
    full, _ = engine_gradient(p, inversion, variables)
    for v in variables:
        for t in v.tensors():
            t.grad = None
    short, _ = engine_gradient(p, inversion, variables, gradient="shortcut")
    assert relative(short, full) <= 1e-5


def test_the_loss_falls_and_the_best_iterate_is_kept(problem, world):
    p = world_problem(problem, world, search=Descent(iterations=6, rates=(0.05, 0.05, 0.05), best="loss"))
    found = p.search.run(p)
    for row in range(2):
        losses = [t["loss"] for t in found.tried[row]]
        assert len(losses) == 7 and min(losses) < losses[0]
        assert found.strength[row] == losses.index(min(losses))
    again = total(p.energies, View(found.x0, p.scene), None)
    assert torch.allclose(again, torch.tensor([min(t["loss"] for t in tried) for tried in found.tried]), atol=1e-4)


def test_best_reached_prefers_a_flip_over_a_smaller_loss():
    from counterlens.core.search.descent_variables import DescentState

    x = torch.zeros(1)
    for best, number in (("reached", 1), ("loss", 0)):
        course = DescentState(Variables(None, {}, x))
        course.offer(0, x, 0.1, 0.4, 0.0, 0.9, DescentSettings(torch.optim.Adam, best=best))
        course.offer(1, x, 0.3, 0.95, 0.0, 0.9, DescentSettings(torch.optim.Adam, best=best))
        assert course.number == number


@pytest.mark.parametrize("gradient", ["full", "shortcut"])
def test_batch_and_order_do_not_matter(problem, world, gradient):
    search = Descent(iterations=3, rates=(0.02, 0.02, 0.02), gradient=gradient)
    p = world_problem(problem, world, batch=3, guidance=(Target(crops=2, noise=0.01),), search=search)
    together, alone = search.run(p), search.run(p.with_(batch=1))
    turned = search.run(p.take([2, 0, 1]))
    assert (together.x0 - alone.x0).abs().max() <= 1e-4
    assert (together.x0[[2, 0, 1]] - turned.x0).abs().max() <= 1e-4


def test_images_leave_when_they_are_done(problem, world):
    p = world_problem(problem, world, search=Descent(iterations=8, rates=(0.05, 0.05, 0.05), patience=1))
    losses = [
        [t["loss"] for t in row] for row in p.with_(search=Descent(iterations=8, rates=(0.05,) * 3)).search.run(p).tried
    ]
    stop = sorted(row[3] for row in losses)[0] + 1e-6  # one of them is below it after three updates
    found = Descent(iterations=8, rates=(0.05,) * 3, stop=stop).run(p)
    lengths = sorted(len(tried) for tried in found.tried)
    assert lengths[0] <= 4 and all(row[-1]["loss"] < stop or len(row) == 9 for row in found.tried)
    patient = Descent(iterations=8, rates=(1e-9,) * 3, patience=2).run(p)
    assert [len(tried) for tried in patient.tried] == [3, 3]


def test_an_image_is_done_so_many_iterates_after_it_reached_tau():
    from counterlens.core.search.descent_variables import DescentState

    x = torch.zeros(1)
    for after, length in ((0, 3), (2, 5), (None, 6)):
        course, how = DescentState(Variables(None, {}, x)), DescentSettings(torch.optim.Adam, after=after)
        for number, p in enumerate((0.1, 0.2, 0.95, 0.8, 0.97, 0.99)):
            course.offer(number, x, 1.0 - 0.1 * number, p, 0.0, 0.9, how)
            if course.done:
                break
        assert len(course.tried) == length


def test_an_image_whose_gradient_is_not_finite_fails_alone_with_its_iteration(problem, world):
    p = world_problem(problem, world, search=Descent(iterations=3))
    broken = p.scene.x0.clone()
    broken[0] = float("nan")
    whole = p.search.run(p)
    p = p.with_(scene=replace(p.scene, x0=broken), inversions=InversionLedger())
    found = p.search.run(p)
    assert "not finite at iteration 0" in found.failures[0] and found.failures[1] == ""
    assert torch.allclose(found.x0[1], whole.x0[1], atol=1e-5)


def test_a_change_map_limits_the_start_and_holds_the_rest(problem, world):
    p = world_problem(problem, world, search=Descent(iterations=2, rates=(0.1, 0.1, 0.1)))
    change = torch.zeros(2, 1, 8, 8)
    change[:, :, :4] = 1.0
    scene = locked(replace(p.scene, image=p.scene.x0[:, :3] / 2), change)
    found = p.search.run(p.with_(scene=scene))
    assert torch.equal(found.x0[:, :, 4:], p.scene.x0[:, :, 4:])
    assert not torch.equal(found.x0[:, :, :4], p.scene.x0[:, :, :4])


def test_counts_forward_recomputed_and_backward_passes(problem, world):
    for gradient, forward, again in (("full", 3 * 10, 20), ("truncated:2", 3 * 10, 8), ("shortcut", 3 * 10 + 20, 0)):
        p = world_problem(problem, world, search=Descent(iterations=2, gradient=gradient))
        p.search.run(p)
        meter = p.scene.net.meter
        assert meter.forward[0] == forward and meter.recomputed[0] == again
        assert meter.backward[0] == (8 if gradient == "truncated:2" else 20)


def test_unknown_gradients_are_refused():
    with pytest.raises(ValueError, match="truncated:K"):
        Descent(gradient="half")
    with pytest.raises(ValueError, match="truncated:K"):
        Descent(gradient="truncated:0")


def test_an_unconditional_model_moves_its_start_alone(problem):
    search = Descent(iterations=3, rates=(0.01, 0.01, 0.01))
    p = problem(inverter=Ddim(), search=search, guidance=(Target(),))
    found = p.search.run(p)
    assert all(min(t["loss"] for t in tried) < tried[0]["loss"] for tried in found.tried)


def test_shortcut_refuses_editors_that_ask_the_network_themselves(problem, world):
    class Asks:
        def bind(self, scene):
            return self

        def on_estimate(self, est, step):
            return step.ask(without=self)

    p = world_problem(problem, world, editors=(Asks(),), search=Descent(gradient="shortcut", iterations=1))
    with pytest.raises(UsageError, match="use full"):
        p.search.run(p)
