"""The least strength that reaches the target, found by doubling from far below and then by halving what is between.

Every image is at its own point of its own search; the next try of any of them fills a batch, so that a batch is full
as long as there are images enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from counterlens.core.problem.items import SearchResult
from counterlens.core.problem.problem import Problem
from counterlens.core.search.strength_search import LadderStep, walk_tries


@dataclass(frozen=True)
class BracketSettings:
    """``first``: the strength tried first at every start; it doubles until tau is reached, up to ``most``. Then
    ``refine`` tries at the (geometric) middle between the least that reaches and the most that falls short."""

    starts: Sequence[float]
    first: float = 0.5
    most: float = 4.0
    refine: int = 2
    through: str = "estimate"


@dataclass
class BracketState:
    """One image on its way: the least strength that reached tau, else the try that came nearest to it."""

    settings: BracketSettings
    tau: float
    x0: Tensor | None = None
    rung: LadderStep | None = None
    p: float = -1.0
    reached: bool = False
    short: float = 0.0  # the largest strength that is known to fall short, at the start that is being tried
    start: int = 0
    strength: float = 0.0
    halved: int = 0
    done: bool = False
    tried: list[Mapping[str, float | None]] = field(default_factory=list)
    ends: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.strength = self.settings.first

    @property
    def next(self) -> LadderStep:
        return LadderStep(self.settings.starts[self.start], self.strength)

    def offer(self, x0: Tensor, p: float) -> None:
        """What became of ``next``."""
        rung, known = self.next, math.isfinite(p)  # a walk that went out of range has no probability
        self.tried.append({"skip": rung.skip, "strength": rung.strength, "p_target": round(p, 6) if known else None})
        reaches = known and p >= self.tau
        if self.x0 is None or reaches or (not self.reached and p > self.p):
            self.x0, self.rung, self.p = x0, rung, p if known else -1.0
        self.halved += self.reached
        self.reached = self.reached or reaches
        self.short = self.short if reaches else rung.strength
        self._advance()

    def _advance(self) -> None:
        how = self.settings
        if self.reached:
            assert self.rung is not None
            least = self.rung.strength
            self.strength = round((self.short * least) ** 0.5 if self.short else least / 2, 4)
            self.done = self.halved >= how.refine
        elif 2 * self.strength <= how.most:
            self.strength *= 2
        elif self.start + 1 < len(how.starts):
            self.start, self.strength, self.short = self.start + 1, how.first, 0.0
        else:
            self.done = True


def search_bracket(problem: Problem, settings: BracketSettings) -> SearchResult:
    """The least strength that reaches ``problem.tau`` from the first start that can do it, for each image."""
    states = [BracketState(settings, problem.tau) for _ in range(len(problem.scene))]
    while rows := _together(states, problem):
        tries = [(row, states[row].next) for row in rows]
        for row, x0, p in zip(rows, *walk_tries(problem, tries, settings.through), strict=True):
            states[row].offer(x0, float(p))
            if problem.keep:
                states[row].ends.append(x0)
        problem.tick(sum(state.done for state in states), len(states))
    return SearchResult(
        torch.stack([state.x0 for state in states if state.x0 is not None]),
        tuple(state.rung.strength if state.rung else None for state in states),
        tuple(tuple(state.tried) for state in states),
        tuple(tuple(state.ends) for state in states) if problem.keep else (),
    )


def _together(states: Sequence[BracketState], problem: Problem) -> list[int]:
    """Rows whose next tries walk in one batch: the first that are open; of one start where levels may not mix."""
    open_rows = [row for row, state in enumerate(states) if not state.done]
    if not problem.mixes:
        groups = list(_by_start(states, open_rows))
        open_rows = max(groups, key=len, default=[])
    return open_rows[: max(1, problem.batch)]


def _by_start(states: Sequence[BracketState], rows: Sequence[int]) -> Iterator[list[int]]:
    for start in sorted({states[row].start for row in rows}):
        yield [row for row in rows if states[row].start == start]
