"""The least move that flips, in one walk: Newton steps on the target's log-odds, the latest start first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from counterlens.core.classifiers.log_odds import log_odds, log_odds_at
from counterlens.core.problem.items import SearchResult
from counterlens.core.problem.problem import Measures, Problem
from counterlens.core.search.posterior_step import PosteriorStep
from counterlens.core.search.strength_search import BestTry, LadderStep


@dataclass(frozen=True)
class NewtonSettings:
    """``starts``: shares of the trajectory left out, tried in this order; ``firmness``, ``margin``: see ``goal_of``;
    ``limit``: see PosteriorStep; ``energies``: what pulls beside the log-odds or instead of them."""

    starts: Sequence[float]
    firmness: float = 0.7
    margin: float = 10.0
    limit: float = 80.0
    energies: Sequence[Measures] = ()


def goal_of(problem: Problem, firmness: float, margin: float) -> Tensor:
    """The log-odds [B] that the target is to have in every estimate: ``firmness`` times those that the source's class
    has in the source, and at least so many that the doubt which tau allows is ``margin`` times smaller.

    A picture that only just crosses the boundary is one that no second classifier confirms.
    """
    scene = problem.scene
    with torch.no_grad():
        source = log_odds(scene.resources.classifier.logits(scene.image / 2 + 0.5), scene.source)
    return (firmness * source).clamp_min(log_odds_at(1 - (1 - problem.tau) / margin))


def search_newton(problem: Problem, settings: NewtonSettings) -> SearchResult:
    """The first start from which an image reaches tau, else its most probable try.

    The strength of a row is the length of its moves in standard deviations (PosteriorStep.moved).
    """
    best, size = [BestTry() for _ in range(len(problem.scene))], max(1, problem.batch)
    for k, skip in enumerate(settings.starts):
        open_rows = [row for row, one in enumerate(best) if not one.reached]
        for part in (open_rows[at : at + size] for at in range(0, len(open_rows), size)):
            x0, moved, p = _try(problem.take(part), skip, settings)
            for row, end, strength, probability in zip(part, x0, moved.tolist(), p.tolist(), strict=True):
                best[row].offer(end, LadderStep(skip, round(strength, 4)), probability, problem.tau)
                if problem.keep:
                    best[row].ends.append(end)
        problem.tick(k + 1, len(settings.starts))
    return SearchResult(
        torch.stack([one.x0 for one in best if one.x0 is not None]),
        tuple(one.rung.strength if one.rung else None for one in best),
        tuple(tuple(one.tried) for one in best),
        tuple(tuple(one.ends) for one in best) if problem.keep else (),
    )


def _try(problem: Problem, skip: float, settings: NewtonSettings) -> tuple[Tensor, Tensor, Tensor]:
    """x0 [B,C,h,w], how far it was moved [B], p(target) [B]; rows whose maps leave out other steps walk apart."""
    lock, inversion = problem.scene.lock, problem.invert(skip)
    groups = [list(range(len(problem.scene)))] if lock is None else lock.groups(inversion.grid)
    ends, moved = [], []
    for rows in groups:
        part = problem.take(rows)
        step = PosteriorStep(
            part.scene, goal_of(part, settings.firmness, settings.margin), settings.limit, settings.energies
        )
        with torch.enable_grad():
            ends.append(part.walk(inversion.take(rows), [step]).detach())
        moved.append(step.moved)
    order = torch.tensor([row for rows in groups for row in rows]).argsort().to(ends[0].device)
    x0 = torch.cat(ends)[order]
    return x0, torch.cat(moved)[order], problem.target_of(problem.score(x0))
