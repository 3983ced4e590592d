"""Gradients of the loss at the end of a walk: through all steps, or by a one-step shortcut."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from counterlens.core.diffusion.costs import CostMeter
from counterlens.core.diffusion.loop import Frame
from counterlens.core.errors import UsageError
from counterlens.core.problem.view import View
from counterlens.core.search.guidance_step import total
from counterlens.core.search.shortcut_gradient import AnswerRecorder, AnswerReplay, products

if TYPE_CHECKING:
    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.diffusion.network import Network
    from counterlens.core.diffusion.step import Step
    from counterlens.core.problem.problem import Problem
    from counterlens.core.search.descent_variables import (
        DescentSettings,
        DescentState,
        VariableShift,
    )


Ends = tuple[Tensor, list[float], list[float]]  # x0 [B,C,h,w], and an image's loss and p(target)


def through_all(
    problem: Problem,
    inversion: Inversion,
    moved: VariableShift,
    courses: Any,
    how: DescentSettings,
    number: int,
    final: bool,
) -> Ends:
    """The exact gradient, or that of the last ``how.truncated`` steps; each question is computed again going back."""
    scene, n = problem.scene, len(inversion.grid) - 1
    first = n - how.truncated if how.gradient == "truncated" else 0
    again = how.checkpoint and not final
    walk = _on(problem, replace(scene.net, checkpointed=again))
    frames, tail, steps = walk.frames(inversion, [moved]), deque[Frame](maxlen=how.last), 0
    for i in range(first_step(problem, inversion), n):
        with torch.set_grad_enabled(not final and i >= first):
            tail.append(next(frames))
        steps += not final and i >= first
    if not final:
        scene.net.meter.differentiated(scene.rows, steps * len(scene.cond), again)
    return objective(problem, inversion, list(tail), how, number, not final)


def by_shortcut(
    problem: Problem,
    inversion: Inversion,
    moved: VariableShift,
    courses: Sequence[DescentState],
    how: DescentSettings,
    number: int,
    final: bool,
) -> Ends:
    """The gradient through the linear recursion alone, and every question's own; see shortcut_gradient.py."""
    recorder = problem.scene.net.as_(AnswerRecorder)
    with torch.no_grad():
        frames = list(_on(problem, recorder).frames(inversion, [moved]))
    if final:
        return objective(problem, inversion, frames[-how.last :], how, number, False)
    if len(recorder.asked) != len(frames):
        raise UsageError("gradient=shortcut needs one question a step: an editor asks the network itself; use full")
    answers = [(answer.requires_grad_(), raw) for answer, raw in recorder.answers]
    reader = problem.scene.net.as_(AnswerReplay, answers=answers, meter=CostMeter())  # reading is not asking
    with torch.enable_grad():
        frames = list(_on(problem, reader).frames(inversion, [replace(moved)]))  # a walk begins anew
        ends = objective(problem, inversion, frames[-how.last :], how, number, True)
    pulls = [torch.zeros_like(a) if a.grad is None else a.grad for a, _ in answers]
    grads = products(problem.scene.net, recorder.asked, recorder.editors, pulls, problem.combiner, problem.batch)
    for row, course in enumerate(courses):
        for branch, tensor in course.variables.cond.items():
            tensor.grad = torch.zeros_like(tensor)
            for step, grad in zip(recorder.asked, grads, strict=True):
                tensor.grad[step.i] = grad[branch][row]
    return ends


GRADIENTS = {"full": through_all, "truncated": through_all, "shortcut": by_shortcut}


def _on(problem: Problem, net: Network) -> Problem:
    return problem.with_(scene=replace(problem.scene, net=net))


def first_step(problem: Problem, inversion: Inversion) -> int:
    """The first step that runs: a lock leaves out those in which everything is held."""
    return 0 if problem.scene.lock is None else problem.scene.lock.start(inversion.grid)


def objective(
    problem: Problem, inversion: Inversion, frames: Sequence[Frame], how: DescentSettings, number: int, gradient: bool
) -> Ends:
    """x0 of the walk, its plain loss at the last estimate, p(target); the weighted loss's gradient, if asked for."""
    scene, n = problem.scene, len(inversion.grid) - 1
    with torch.set_grad_enabled(gradient):
        x0 = frames[-1].x / inversion.grid[-1].a
        x0 = x0 if scene.lock is None else scene.lock.restored(x0)
        estimates = [*(frame.estimate.x0 for frame in frames[:-1]), x0]
        again = gradient and how.checkpoint
        looks = [look(problem, e, f.step, number * n, again) for e, f in zip(estimates, frames, strict=True)]
        terms, views = [term for term, _ in looks], [view for _, view in looks]
        weights = [k + 1 if how.weights == "linear" else 1 for k in range(len(terms))]
        loss = sum(w / sum(weights) * term for w, term in zip(weights, terms, strict=True))
    for row in scene.rows:
        scene.net.meter.gradient[row] += len(views) if gradient else 0
    if gradient:
        loss.sum().backward()  # type: ignore[union-attr]
    with torch.no_grad():
        plain, last = terms[-1], views[-1]
        if any(energy.draws for energy in problem.energies):
            last = last.plainly()
            plain = total(problem.energies, last, frames[-1].step)
        p = problem.target_of(last.logits.softmax(1))
    return x0.detach(), plain.tolist(), p.tolist()


def look(problem: Problem, x0: Tensor, step: Step, draw: int, again: bool) -> tuple[Tensor, View]:
    """The energies [B] at a clean estimate, and the view that they had; ``again``: decoded again going backward, so
    that no more than one estimate's activations are there at a time."""
    views: list[View] = []

    def energies(x0: Tensor) -> Tensor:
        views.append(View(x0, problem.scene, draw + step.i))
        return total(problem.energies, views[-1], step)

    term = checkpoint(energies, x0, use_reentrant=False) if again else energies(x0)
    return term, views[0]  # type: ignore[return-value]
