"""The search ``h-space`` for the images of one batch: gradient, ladder of lengths, gradient anew, bisection."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from counterlens.core.classifiers.log_odds import log_odds_at
from counterlens.core.h_space import gradients
from counterlens.core.h_space.injection import AddShift, weights_of

if TYPE_CHECKING:
    from counterlens.core.h_space.shifts import ShiftBank
    from counterlens.core.problem.problem import Problem


@dataclass(frozen=True, kw_only=True)
class ClimbSettings:
    """How to climb: the options of ``h-space`` of the same names."""

    use: str
    tries: int
    protect: tuple[str, ...]
    ridge: float
    through: Literal["trajectory", "step"]
    rounds: int
    reach: float
    cap: float
    refine: int
    window: tuple[float, float]
    schedule: str
    form: str


@dataclass
class ClimbState:
    """One image: the best try so far, which is the least that reached tau, else the one nearest to it."""

    x0: Tensor
    strength: float = 0.0
    p: float = -1.0
    reached: bool = False
    short: float = 0.0  # the longest shift on the way to the best one that is known to fall short
    tried: list[dict[str, Any]] = field(default_factory=list)
    ends: list[Tensor] = field(default_factory=list)

    def offer(self, x0: Tensor, p: float, strength: float, tau: float) -> bool:
        """One more try; True when it is the best so far."""
        known = math.isfinite(p)  # a walk that went out of range has no probability
        self.tried.append({"skip": None, "strength": round(strength, 4), "p_target": round(p, 6) if known else None})
        reaches = known and p >= tau
        shorter = not self.reached or strength < self.strength
        if not (shorter if reaches else known and not self.reached and p > self.p):
            return False
        self.x0, self.strength, self.p, self.reached = x0, strength, p, reaches
        return True


def alike(problem: Problem) -> list[list[int]]:
    """Rows that walk together: all of them without a change map."""
    lock = problem.scene.lock
    return [list(range(len(problem.scene)))] if lock is None else lock.groups(problem.invert().grid)


class Climb:
    """The search for the rows of one batch. ``delta`` [T,B,C,h',w'] is each row's shift so far."""

    def __init__(self, how: ClimbSettings, problem: Problem, site: str, bank: ShiftBank | None = None) -> None:
        self.how, self.problem, self.site = how, problem, site
        self.inversion = problem.invert()
        self.delta = gradients.zeros(problem, site, self.inversion)
        self.weights = weights_of(len(self.delta), how.window, how.schedule)
        self.norms = torch.zeros(self.delta.shape[:2], device=self.delta.device)
        self.deltas = None if bank is None else torch.stack([s.delta for s in bank.shifts]).to(self.delta)
        self.rows = [ClimbState(x0) for x0 in problem.scene.x0]
        self.reach = torch.full((len(self.rows),), how.reach, device=self.delta.device)
        self.goal = log_odds_at(problem.tau)

    def run(self) -> list[ClimbState]:
        for _ in range(self.how.rounds):
            open_rows = [k for k, row in enumerate(self.rows) if not row.reached]
            if not open_rows:
                break
            self._round(open_rows)
        for _ in range(self.how.refine):
            self._halve([k for k, row in enumerate(self.rows) if row.reached])
        return self.rows

    def _inject(self, rows: Sequence[int], delta: Tensor) -> AddShift:
        lock = self.problem.scene.lock
        return AddShift(
            delta,
            torch.ones(len(rows), device=delta.device),
            self.weights,
            self.site,
            symmetric=self.how.form == "symmetric",
            lock=None if lock is None else lock.take(rows),
        )

    def _round(self, rows: list[int]) -> None:
        """Take the gradient at the shift so far, and try a few lengths along what it says."""
        labels = self.problem.scene.resources.classifier
        protect = [labels.label_index(name) for name in self.how.protect]
        start = self.delta[:, rows]
        slope = gradients.target_gradient(
            self.problem.take(rows),
            self.inversion.take(rows),
            self._inject(rows, start),
            protect,
            self.how.through,
        )
        if not self.norms.any():  # the first round: all rows are open
            self.norms = slope.norms
        norms, reach = self.norms[:, rows], self.reach[rows]
        gap, before = self.goal - slope.margin, [self.rows[row].p for row in rows]
        for v, factors in self._moves(slope, norms):
            rise = gradients.predicted(slope.gradient, v).clamp_min(1e-12)
            gamma = torch.minimum((gap / rise).clamp_min(0), reach).maximum(0.25 * reach)
            for factor in factors:
                self._try(rows, start + v * (factor * gamma).view(1, -1, 1, 1, 1))
        for row, p in zip(rows, before, strict=True):
            if self.rows[row].p <= p:  # a step that made nothing better was too long
                self.reach[row] /= 3

    def _moves(self, slope: gradients.TargetGradient, norms: Tensor) -> Iterator[tuple[Tensor, tuple[float, ...]]]:
        """Directions [T,B,…] of relative length 1 along which the log-odds rise; factors of the predicted length."""
        gradient = slope.gradient
        if slope.protected is not None:
            gradient = gradients.disentangled(gradient, slope.protected, self.how.ridge)
        if self.deltas is None:
            yield gradients.steepest(gradient, norms), (1.0, 2.0)
        elif self.how.use == "span":
            bank = self.deltas.flatten(1)
            rows = [gradients.projected_on(gradient[:, k].flatten(), bank) for k in range(gradient.shape[1])]
            v = torch.stack([row.view_as(gradient[:, 0]) for row in rows], 1)
            yield v / gradients.relative(v, norms).clamp_min(1e-20).view(1, -1, 1, 1, 1), (1.0, 2.0, 4.0)
        else:
            yield from self._ranked(gradient, norms)

    def _ranked(self, gradient: Tensor, norms: Tensor) -> Iterator[tuple[Tensor, tuple[float, ...]]]:
        """Each row's best directions of the bank, in the sense that is predicted, then in the other."""
        assert self.deltas is not None
        value = gradients.ranking(gradient, norms, self.deltas)  # [K,B]
        order = value.abs().argsort(0, descending=True)
        for place in order[: self.how.tries]:
            v = self.deltas[place].transpose(0, 1) * value.gather(0, place[None]).sign().view(1, -1, 1, 1, 1)
            yield v / gradients.relative(v, norms).clamp_min(1e-20).view(1, -1, 1, 1, 1), (1.0, 2.0, 4.0, -2.0)

    def _try(self, rows: list[int], delta: Tensor) -> None:
        """Walk with these shifts, at most as long as the cap, where the row is still open."""
        at = [k for k, row in enumerate(rows) if not self.rows[row].reached]
        if at:
            length = gradients.relative(delta, self.norms[:, rows])
            delta = delta * (self.how.cap / length.clamp_min(1e-12)).clamp(max=1).view(1, -1, 1, 1, 1)
            self._offer([rows[k] for k in at], delta[:, at])

    def _halve(self, rows: list[int]) -> None:
        """Try the middle between the longest shift on the ray that falls short and the least that reaches tau."""
        if not rows:
            return
        least = torch.tensor([self.rows[row].strength for row in rows], device=self.delta.device)
        middle = (least + torch.tensor([self.rows[row].short for row in rows], device=self.delta.device)) / 2
        better = self._offer(rows, self.delta[:, rows] * (middle / least.clamp_min(1e-12)).view(1, -1, 1, 1, 1))
        for row, length, ok in zip(rows, middle.tolist(), better, strict=True):
            if not ok:
                self.rows[row].short = length

    def _offer(self, rows: list[int], delta: Tensor) -> list[bool]:
        """Score these shifts of these rows; a better one becomes the row's own."""
        part, better = self.problem.take(rows), []
        with torch.no_grad():
            x0 = part.walk(self.inversion.take(rows), [self._inject(rows, delta)])
        p, length = part.target_of(part.score(x0)), gradients.relative(delta, self.norms[:, rows])
        for k, row in enumerate(rows):
            better.append(self.rows[row].offer(x0[k], float(p[k]), float(length[k]), self.problem.tau))
            if better[-1]:
                self.delta[:, row] = delta[:, k]
            if self.problem.keep:
                self.rows[row].ends.append(x0[k])
        return better
