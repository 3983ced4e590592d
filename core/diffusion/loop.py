"""The one denoising loop: a generator of frozen frames.

Progress, recording, early stop and preview are ordinary ``for`` loops around it; the same function serves
inversion (the grid reversed), sampling, editing, guidance and optimisation through time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, pairwise
from typing import Any

from torch import Tensor

from counterlens.core.diffusion.levels import Estimate, Level, Number
from counterlens.core.diffusion.module_hooks import fold
from counterlens.core.diffusion.network import Network
from counterlens.core.diffusion.step import Combine, Condition, Extra, Step, only


class _Always:
    """The same value at every step."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __getitem__(self, i: int) -> Any:
        return self.value


_ZEROS, _NONE = _Always(0.0), _Always(None)


@dataclass(frozen=True)
class Frame:
    """One finished step: what was asked, what was answered (after all editors), and the next ``x`` [B,C,h,w]."""

    step: Step
    estimate: Estimate
    x: Tensor


def denoise(
    net: Network,
    x: Tensor,
    grid: Sequence[Level],
    cond: Condition,
    editors: Sequence[Any] = (),
    *,
    combine: Combine = only,
    churn: Sequence[Number] | _Always | None = None,
    noise: Sequence[Tensor] | _Always | None = None,
    residual: Sequence[Tensor] | _Always | None = None,
    extra: Extra | None = None,
    rows: tuple[int, ...] = (),
    start: int = 0,
) -> Iterator[Frame]:
    """Walk ``x`` [B,C,h,w] along ``grid``, a frame a step, from step ``start``.

    Step ``i`` adds ``churn[i]·noise[i]`` or ``residual[i]``.
    """
    churn, noise, residual = churn or _ZEROS, noise or _NONE, residual or _NONE
    for i, (now, to) in islice(enumerate(pairwise(grid)), start, None):
        step = Step(i=i, n=len(grid) - 1, now=now, to=to, x=x, cond=cond, rows=rows, extra=extra or {})
        step = replace(step, x=fold(editors, "on_latent", x, step))
        step = replace(step, cond=fold(editors, "on_condition", cond, step))
        step = replace(step, extra=fold(editors, "on_extra", step.extra, step))
        step = replace(step, ask=partial(net.estimate, step, editors, combine))
        estimate = fold(editors, "on_estimate", step.ask(), step)
        x = fold(editors, "on_next", estimate.at(to, churn[i], noise[i], residual[i]), step)
        yield Frame(step, estimate, x)


def last(frames: Iterable[Frame]) -> Frame:
    """Run a loop to its end."""
    frame = None
    for frame in frames:  # noqa: B007
        pass
    if frame is None:
        raise ValueError("the grid has no step: give at least two levels")
    return frame
