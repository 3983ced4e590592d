"""Descent through the whole sampler: its start and the conditions of every step, by the gradient of energies.

DiG-IN (Augustin, Neuhaus & Hein 2024, section 3): for x(v) the walk under the variables v, minimise
``L(v) = sum_k w_k sum_j lambda_j E_j(x0_k(v))`` over the last K clean estimates, w_k rising linearly and summing to 1.
All of it batched over images, each with its own variables, best iterate and end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from counterlens.core.problem.items import SearchResult
from counterlens.core.search.descent_gradients import GRADIENTS
from counterlens.core.search.descent_variables import DescentState, VariableShift, variables_of
from counterlens.core.utils.batched import batched

if TYPE_CHECKING:
    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.problem.problem import Problem
    from counterlens.core.search.descent_variables import DescentSettings


def descend(problem: Problem, how: DescentSettings) -> SearchResult:
    """The best iterate of every image of one batch. ``strength`` of the answer is the number of the iterate."""
    inversion = problem.invert()
    courses = [DescentState(one) for one in variables_of(problem.scene, inversion, how.free)]
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
    return result_of(problem, courses)


def factor(number: int, how: DescentSettings) -> float:
    """The learning rates' factor at an iteration: constant, or from 1 down to a tenth along half a cosine."""
    if how.schedule == "constant":
        return 1.0
    return 0.1 + 0.45 * (1 + math.cos(math.pi * number / max(1, how.iterations)))


def advance(optimiser: torch.optim.Optimizer, courses: Sequence[DescentState], how: DescentSettings) -> None:
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
    problem: Problem,
    inversion: Inversion,
    courses: Sequence[DescentState],
    how: DescentSettings,
    number: int,
    final: bool,
) -> None:
    """One walk under the variables as they are: every image's loss, offered; and, unless ``final``, its gradient."""
    moved = VariableShift.of([course.variables for course in courses], problem.scene.lock)
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


def result_of(problem: Problem, courses: Sequence[DescentState]) -> SearchResult:
    """The answer: an image that failed keeps its source, and the reason."""
    ends = [problem.scene.x0[row] if c.x0 is None else c.x0 for row, c in enumerate(courses)]
    return SearchResult(
        x0=torch.stack(ends),
        strength=tuple(float(course.number) for course in courses),
        tried=tuple(tuple(course.tried) for course in courses),
        ends=tuple(tuple(course.ends) for course in courses) if problem.keep else (),
        failures=tuple(course.failure for course in courses),
    )


def descended(problem: Problem, descend_one: Callable[[Problem], SearchResult]) -> SearchResult:
    """All images of a problem in batches; rows whose change maps leave out other steps go apart."""
    grid = problem.scene.grid[problem.inverter.start(len(problem.scene.grid) - 1) :]
    parts: list[tuple[Sequence[int], SearchResult]] = []
    lock = problem.scene.lock
    groups = lock.groups(grid) if lock is not None else [list(range(len(problem.scene)))]
    for group in groups:
        for rows in batched(group, problem.batch):
            parts.append((rows, descend_one(problem.take(rows))))
    place = {row: (result_of, k) for rows, result_of in parts for k, row in enumerate(rows)}
    order = [place[row] for row in range(len(problem.scene))]
    return SearchResult(
        x0=torch.stack([result_of.x0[k] for result_of, k in order]),
        strength=tuple(result_of.strength[k] for result_of, k in order),
        tried=tuple(result_of.tried[k] for result_of, k in order),
        ends=tuple(result_of.ends[k] for result_of, k in order) if problem.keep else (),
        failures=tuple(result_of.failures[k] for result_of, k in order),
    )
