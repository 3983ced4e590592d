"""What searches share: a problem in batches, a walk with its guidance, and the least strength that flips."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from counterlens.core.diffusion.inversion import Inversion
from counterlens.core.diffusion.levels import rows
from counterlens.core.diffusion.loop import last
from counterlens.core.problem.items import SearchResult
from counterlens.core.problem.problem import Problem
from counterlens.core.search.guidance_step import GuidanceStep
from counterlens.core.utils.batched import batched


def chunks(problem: Problem) -> Iterator[Problem]:
    """The problem in batches of at most ``problem.batch`` rows, in order."""
    yield from map(problem.take, batched(range(len(problem.scene)), problem.batch))


def walk(problem: Problem, inversion: Inversion, through: str = "estimate") -> Tensor:
    """The edited x0 [B,C,h,w] at the scene's strength: editors, then the guidance if the method has any.

    Rows whose change maps leave out other steps walk apart: what an image costs does not depend on its neighbours.
    """
    groups = problem.scene.lock.groups(inversion.grid) if problem.scene.lock is not None else []
    if len(groups) > 1:
        ends = [walk(problem.take(rows), inversion.take(rows), through) for rows in groups]
        order = torch.tensor([row for rows in groups for row in rows])
        return torch.cat(ends)[order.argsort().to(ends[0].device)]
    steer = [GuidanceStep(problem.scene, problem.energies, problem.scene.strength, through)] if problem.energies else []
    with torch.set_grad_enabled(through == "network" and bool(steer)):
        return problem.walk(inversion, steer).detach()


def result_of_ends(ends: Sequence[Tensor], strength: float | None = None) -> SearchResult:
    """The answer of a search that tried one thing."""
    x0 = torch.cat(list(ends))
    return SearchResult(x0, (strength,) * len(x0), ((),) * len(x0))


@dataclass(frozen=True)
class LadderStep:
    """One try of a ladder: how much of the trajectory is skipped, and the strength."""

    skip: float
    strength: float


@dataclass
class BestTry:
    """The best try of one image so far: the first that reached tau, else the one nearest to it."""

    x0: Tensor | None = None
    rung: LadderStep | None = None
    p: float = -1.0
    reached: bool = False
    tried: list[Mapping[str, float | None]] = field(default_factory=list)
    ends: list[Tensor] = field(default_factory=list)

    def offer(self, x0: Tensor, rung: LadderStep, p: float, tau: float) -> None:
        """One more try, in the ladder's order. After one that reached tau the rest are only recorded."""
        known = math.isfinite(p)  # a walk that went out of range has no probability
        self.tried.append({"skip": rung.skip, "strength": rung.strength, "p_target": round(p, 6) if known else None})
        if not self.reached and (p > self.p or self.x0 is None):
            self.x0, self.rung, self.p, self.reached = x0, rung, p if known else -1.0, p >= tau


def search_ladder(
    problem: Problem, ladder: Sequence[LadderStep], together: int = 1, through: str = "estimate", stop: bool = True
) -> SearchResult:
    """The first rung of ``ladder`` whose target probability reaches ``problem.tau``, for each image.

    Flipping is not assumed to be monotone: rungs are tried in order. ``together`` rungs of an image share a batch
    with those of the other images; an image that is decided leaves (unless not to ``stop``). An image that never
    reaches tau keeps its best try. Inversions are made once for each (image, step).
    """
    best = [BestTry() for _ in range(len(problem.scene))]
    done = 0
    for rungs in batched(ladder, together):
        open_rows = [row for row, b in enumerate(best) if not (stop and b.reached)]
        tries = [(row, rung) for row in open_rows for rung in rungs]
        for part in _batches(tries, problem):
            for (row, rung), x0, p in zip(part, *walk_tries(problem, part, through), strict=True):
                best[row].offer(x0, rung, float(p), problem.tau)
                if problem.keep:
                    best[row].ends.append(x0)
        done += len(rungs)
        problem.tick(done, len(ladder))
        if not open_rows:
            break
    return SearchResult(
        torch.stack([b.x0 for b in best if b.x0 is not None]),
        tuple(b.rung.strength if b.rung else None for b in best),
        tuple(tuple(b.tried) for b in best),
        tuple(tuple(b.ends) for b in best) if problem.keep else (),
    )


def _batches(tries: list[tuple[int, LadderStep]], problem: Problem) -> Iterator[Sequence[tuple[int, LadderStep]]]:
    """Tries that walk together: of every start where levels may mix, else of one start at a time."""
    groups = [tries] if problem.mixes else [[t for t in tries if t[1].skip == skip] for skip in _skips(tries)]
    for group in groups:
        yield from batched(group, problem.batch)


def _skips(tries: Sequence[tuple[int, LadderStep]]) -> list[float]:
    return list(dict.fromkeys(rung.skip for _, rung in tries))


def walk_tries(problem: Problem, tries: Sequence[tuple[int, LadderStep]], through: str) -> tuple[Tensor, Tensor]:
    """x0 [N,C,h,w] and p(target) [N] of these tries."""
    strength = torch.tensor([rung.strength for _, rung in tries])
    part = problem.take([row for row, _ in tries])
    part = part.with_(scene=part.scene.at(strength))
    if len(_skips(tries)) == 1:
        x0 = walk(part, part.invert(tries[0][1].skip), through)
    else:
        x0 = walk_mixed(part, _starts(problem, tries))
    return x0, part.target_of(part.score(x0))


def _starts(problem: Problem, tries: Sequence[tuple[int, LadderStep]]) -> list[Inversion]:
    """The start of each try; images that begin at the same step are inverted together, the longest first."""
    for skip in sorted(_skips(tries)):
        problem.take([row for row, rung in tries if rung.skip == skip]).invert(skip)
    return [problem.take([row]).invert(rung.skip) for row, rung in tries]


def walk_mixed(problem: Problem, starts: Sequence[Inversion]) -> Tensor:
    """The edited x0 [B,C,h,w] of rows that start at different levels: one network call a step for all of them.

    A row whose trajectory is shorter is done earlier and leaves the batch.
    """
    ends: dict[int, Tensor] = {}
    x = [start.x for start in starts]
    open_rows, done = list(range(len(starts))), 0
    with torch.no_grad():
        while open_rows:
            upto = min(len(starts[row].grid) for row in open_rows) - 1
            part = problem.take(open_rows)
            frames = part.frames(
                _aligned([starts[row] for row in open_rows], [x[row] for row in open_rows], done, upto)
            )
            end = last(frames).x if upto > done else torch.cat([x[row] for row in open_rows])
            for k, row in enumerate(open_rows):
                x[row] = end[k : k + 1]
                if len(starts[row].grid) - 1 == upto:
                    ends[row] = x[row] / starts[row].grid[-1].a
            open_rows, done = [row for row in open_rows if row not in ends], upto
    return torch.cat([ends[row] for row in range(len(starts))])


def _aligned(starts: Sequence[Inversion], x: Sequence[Tensor], begin: int, end: int) -> Inversion:
    """Steps ``begin`` to ``end`` of trajectories that are at different levels, as one with a level a row."""
    device = x[0].device
    grid = tuple(rows([start.grid[i] for start in starts], device) for i in range(begin, end + 1))
    steps = range(begin, end)
    churn = tuple(
        torch.tensor([start.churn[i] if start.churn else 0.0 for start in starts], device=device).view(-1, 1, 1, 1)
        for i in steps
    )
    if starts[0].residual is None:
        return Inversion(torch.cat(list(x)), grid, churn)
    residual = tuple(torch.cat([start.residual[i] for start in starts if start.residual]) for i in steps)
    return Inversion(torch.cat(list(x)), grid, churn, residual)
