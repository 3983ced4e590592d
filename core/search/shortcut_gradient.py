"""Cheaper gradients of a whole walk: its last steps only, or every step as if states did not depend on one another.

A deterministic step is linear in the network's answers: ``x_{t-1} = a'·x0 + s'·eps``. With the answers as constants of
the states they were asked about, ``dL/dC_t = (d answer_t / dC_t)^T · dL/d answer_t``: the right-hand factor comes from
going backward through that linear recursion alone, and all the products, which do not depend on one another, from a few
large calls. (The one-step shortcut of Shortcut Diffusion Optimization, arXiv 2505.07477, kept for every step.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from counterlens.core.diffusion.levels import rows
from counterlens.core.diffusion.network import Network
from counterlens.core.diffusion.step import Combine, Step


@dataclass(frozen=True, eq=False)
class AnswerRecorder(Network):
    """The same network, which writes down what it was asked and what it answered."""

    asked: list[Step] = field(default_factory=list)
    editors: list[Sequence[Any]] = field(default_factory=list)
    answers: list[tuple[Tensor, Tensor | None]] = field(default_factory=list)

    def combined(self, step: Step, editors: Sequence[Any], combine: Combine) -> tuple[Tensor, Tensor | None]:
        found = super().combined(step, editors, combine)
        self.asked.append(step)
        self.editors.append(editors)
        self.answers.append(found)
        return found


@dataclass(frozen=True, eq=False)
class AnswerReplay(Network):
    """Reads recorded answers out again, in the order in which they were given; asks nothing."""

    answers: Sequence[tuple[Tensor, Tensor | None]] = ()
    at: list[int] = field(default_factory=lambda: [0])

    def combined(self, step: Step, editors: Sequence[Any], combine: Combine) -> tuple[Tensor, Tensor | None]:
        self.at[0] += 1
        return self.answers[self.at[0] - 1]


def products(
    net: Network,
    asked: Sequence[Step],
    editors: Sequence[Sequence[Any]],
    pulls: Sequence[Tensor],
    combine: Combine,
    size: int,
) -> list[dict[str, Tensor]]:
    """For each recorded question the gradient of ``(answer · pull).sum()`` with respect to its conditions.

    ``size``: the most rows in one call. Questions of several steps share calls, unless an editor works inside them.
    """
    inside = any(getattr(e, "sites", ()) or getattr(e, "attention_sites", ()) for e in editors[0])
    each = 1 if inside else max(1, size // max(1, len(asked[0].x)))
    found: list[dict[str, Tensor]] = []
    for k in range(0, len(asked), each):
        found += _products(net, asked[k : k + each], editors[k] if inside else (), pulls[k : k + each], combine)
    return found


def _products(
    net: Network, asked: Sequence[Step], editors: Sequence[Any], pulls: Sequence[Tensor], combine: Combine
) -> list[dict[str, Tensor]]:
    step, batch = _joined(asked), len(asked[0].x)
    net.meter.asked(step.rows, len(step.cond))
    net.meter.differentiated(step.rows, len(step.cond), again=False)
    moved = {branch: value for branch, value in step.cond.items() if value.requires_grad}
    with torch.enable_grad():
        answer, _ = replace(net, checkpointed=False).combined(step, editors, combine)
        grads = torch.autograd.grad(answer, list(moved.values()), torch.cat(list(pulls)))
    parts = range(0, len(step.x), batch)
    return [{branch: g[k : k + batch] for branch, g in zip(moved, grads, strict=True)} for k in parts]


def _joined(asked: Sequence[Step]) -> Step:
    """Questions of several steps as one, a level a row; the conditions are leaves."""
    first, batch = asked[0], len(asked[0].x)
    device = first.x.device
    cond = {branch: torch.cat([step.cond[branch] for step in asked]).detach() for branch in first.cond}
    for value in cond.values():
        value.requires_grad_(value.is_floating_point() and value.numel() > 0)
    now, to = (rows([getattr(step, end) for step in asked for _ in range(batch)], device) for end in ("now", "to"))
    extra = {b: {n: torch.cat([s.extra[b][n] for s in asked]) for n in parts} for b, parts in first.extra.items()}
    x = torch.cat([step.x for step in asked]).detach()
    return replace(first, now=now, to=to, x=x, cond=cond, rows=first.rows * len(asked), extra=extra)
