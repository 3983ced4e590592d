"""Descent through the whole sampler: its start and the conditions of every step, by the gradient of energies.

DiG-IN (Augustin, Neuhaus & Hein 2024, section 3): for x(v) the walk under the variables v, minimise
``L(v) = sum_k w_k sum_j lambda_j E_j(x0_k(v))`` over the last K clean estimates, w_k rising linearly and summing to 1.
All of it batched over images, each with its own variables, best iterate and end.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from counterlens.core.errors import UsageError
from counterlens.core.loop import Frame
from counterlens.core.network import Meter, Network, Step
from counterlens.core.problem import Problem, View
from counterlens.core.replay import Reader, Recorder, like, products
from counterlens.core.steer import total
from counterlens.core.types import Found, Inversion
from counterlens.core.variables import Moved, Variables, variables_of

Optimiser = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]


@dataclass(frozen=True)
class How:
    """The settings of a descent; see the search ``descent`` for what they mean."""

    optimiser: Optimiser
    free: tuple[str, ...] = ("start", "conditions", "nulls")
    rates: tuple[float, float, float] = (1e-3, 1e-2, 1e-2)
    iterations: int = 20
    last: int = 3
    weights: str = "linear"
    schedule: str = "constant"
    gradient: str = "full"
    truncated: int = 0
    checkpoint: bool = True
    keep_norm: bool = True
    best: str = "reached"
    stop: float | None = None
    patience: int = 0
    after: int | None = None


@dataclass
class Course:
    """One image on its way: its variables, and its best iterate so far."""

    variables: Variables
    x0: Tensor | None = None
    loss: float = math.inf
    p: float = -1.0
    number: int = 0
    least: float = math.inf
    stale: int = 0
    since: int = -1  # iterates since the first that reached tau
    failure: str = ""
    done: bool = False
    tried: list[dict[str, float | None]] = field(default_factory=list)
    ends: list[Tensor] = field(default_factory=list)

    def offer(self, number: int, x0: Tensor, loss: float, p: float, skip: float, tau: float, how: How) -> None:
        """One more iterate; the best is the one of least loss, among those that reach tau if there are any."""
        self.tried.append({"skip": skip, "strength": float(number), "p_target": round(p, 6), "loss": round(loss, 6)})
        reached = how.best == "reached"
        better = (reached and p >= tau, -loss) > (reached and self.p >= tau, -self.loss)
        falls = self.least == math.inf or loss < self.least - 0.01 * abs(self.least)
        self.stale = 0 if falls else self.stale + 1
        self.least = min(self.least, loss)
        if better:
            self.x0, self.loss, self.p, self.number = x0.detach().clone(), loss, p, number
        self.since += self.since >= 0 or p >= tau
        enough = how.after is not None and self.since >= how.after
        self.done = enough or (how.stop is not None and loss < how.stop) or (0 < how.patience <= self.stale)


def descend(problem: Problem, how: How) -> Found:
    """The best iterate of every image of one batch. ``strength`` of the answer is the number of the iterate."""
    inversion = problem.invert()
    courses = [Course(one) for one in variables_of(problem.scene, inversion, how.free)]
    optimiser = how.optimiser([group for course in courses for group in course.variables.groups(*how.rates)])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, partial(factor, how=how))
    for number in range(how.iterations + 1):
        rows = [row for row, course in enumerate(courses) if not course.done]
        if not rows:
            break
        part, own, final = problem.take(rows), [courses[row] for row in rows], number == how.iterations
        evaluate(part, inversion.take(rows), own, how, number, final)
        problem.tick(number, how.iterations)
        if not final:
            advance(optimiser, own, how)
            schedule.step()
    return found(problem, courses)


def factor(number: int, how: How) -> float:
    """The learning rates' factor at an iteration: constant, or from 1 down to a tenth along half a cosine."""
    if how.schedule == "constant":
        return 1.0
    return 0.1 + 0.45 * (1 + math.cos(math.pi * number / max(1, how.iterations)))


def advance(optimiser: torch.optim.Optimizer, courses: Sequence[Course], how: How) -> None:
    """One update of the images that are still on their way; those without a gradient stay where they are."""
    for course in courses:
        if course.done:
            for tensor in course.variables.tensors():
                tensor.grad = None
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    for course in courses:
        if how.keep_norm and not course.done:
            course.variables.keep_norm()


def evaluate(
    problem: Problem, inversion: Inversion, courses: Sequence[Course], how: How, number: int, final: bool
) -> None:
    """One walk under the variables as they are: every image's loss, offered; and, unless ``final``, its gradient."""
    moved = Moved.of([course.variables for course in courses], problem.scene.lock)
    ends = GRADIENTS[how.gradient](problem, inversion, moved, courses, how, number, final)
    x0, loss, p = ends
    for row, course in enumerate(courses):
        finite = bool(torch.isfinite(x0[row]).all()) and math.isfinite(loss[row])
        if not finite or not all(_finite(tensor.grad) for tensor in course.variables.tensors()):
            course.done = True
            what = "loss" if not finite else "gradient"
            course.failure = f"the {what} is not finite at iteration {number}: try smaller rates or --dtype float32"
            continue
        course.offer(number, x0[row], loss[row], p[row], problem.inverter.skip, problem.tau, how)
        if problem.keep:
            course.ends.append(x0[row].clone())


def _finite(tensor: Tensor | None) -> bool:
    return tensor is None or bool(torch.isfinite(tensor).all())


Ends = tuple[Tensor, list[float], list[float]]  # x0 [B,C,h,w], and an image's loss and p(target)


def through_all(
    problem: Problem, inversion: Inversion, moved: Moved, courses: Any, how: How, number: int, final: bool
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
    problem: Problem, inversion: Inversion, moved: Moved, courses: Sequence[Course], how: How, number: int, final: bool
) -> Ends:
    """The gradient through the linear recursion alone, and every question's own; see core/replay.py."""
    recorder = like(Recorder, problem.scene.net)
    with torch.no_grad():
        frames = list(_on(problem, recorder).frames(inversion, [moved]))
    if final:
        return objective(problem, inversion, frames[-how.last :], how, number, False)
    if len(recorder.asked) != len(frames):
        raise UsageError("gradient=shortcut needs one question a step: an editor asks the network itself; use full")
    answers = [(answer.requires_grad_(), raw) for answer, raw in recorder.answers]
    reader = like(Reader, problem.scene.net, answers=answers, meter=Meter())  # reading is not asking
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
    problem: Problem, inversion: Inversion, frames: Sequence[Frame], how: How, number: int, gradient: bool
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


def found(problem: Problem, courses: Sequence[Course]) -> Found:
    """The answer: an image that failed keeps its source, and the reason."""
    ends = [problem.scene.x0[row] if c.x0 is None else c.x0 for row, c in enumerate(courses)]
    return Found(
        torch.stack(ends),
        tuple(float(course.number) for course in courses),
        tuple(tuple(course.tried) for course in courses),
        tuple(tuple(course.ends) for course in courses) if problem.keep else (),
        tuple(course.failure for course in courses),
    )


def descended(problem: Problem, descend_one: Callable[[Problem], Found]) -> Found:
    """All images of a problem in batches; rows whose change maps leave out other steps go apart."""
    grid = problem.scene.grid[problem.inverter.start(len(problem.scene.grid) - 1) :]
    parts: list[tuple[list[int], Found]] = []
    size = max(1, problem.batch)
    lock = problem.scene.lock
    groups = lock.groups(grid) if lock is not None else [list(range(len(problem.scene)))]
    for group in groups:
        for k in range(0, len(group), size):
            rows = group[k : k + size]
            parts.append((rows, descend_one(problem.take(rows))))
    place = {row: (found, k) for rows, found in parts for k, row in enumerate(rows)}
    order = [place[row] for row in range(len(problem.scene))]
    return Found(
        torch.stack([found.x0[k] for found, k in order]),
        tuple(found.strength[k] for found, k in order),
        tuple(found.tried[k] for found, k in order),
        tuple(found.ends[k] for found, k in order) if problem.keep else (),
        tuple(found.failures[k] for found, k in order),
    )
