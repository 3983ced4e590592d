"""What a change map locks: how long every place keeps the source on its way, and what may reach it meanwhile.

A place with change ``c`` in [0,1] keeps the source until a clock that rises from 0 (noisiest) to 1 (clean) passes
``keep = 1 - c`` (Levin & Fried 2023, section 4; here held in the estimate rather than only in the state, so that a
place with c = 0 is exactly the source's at the end under every scheduler).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from counterlens.core.diffusion.window import Window, boxes_of, widened

if TYPE_CHECKING:
    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.diffusion.levels import Estimate, Level
    from counterlens.core.diffusion.network import Network
    from counterlens.core.diffusion.step import Condition, Step
    from counterlens.core.diffusion.window import Box


TIE = 1e-6  # 1 - (1 - keep) is off by a rounding, and must still tie with the clock; greys are 1/255 apart


@dataclass(frozen=True, eq=False)
class Lock:
    """A batch's change maps on the way, a row an image.

    ``change`` [B,1,H,W] in [0,1], ``keep`` [B,1,h,w] = 1 - change at the latents' size, ``x0`` [B,C,h,w] and
    ``image`` [B,3,H,W] the sources, ``alpha`` [B,1,H,W] the weight of the edited picture over its source, ``top``
    the noisiest timestep of a whole trajectory. ``mixed``: edits are taken by the map, beside the network's answer
    without them. ``margin`` (shares of a side) makes the network look only at the box
    that may change and so much around it; None shows it everything. ``stride``: sides of that box are multiples of it.
    """

    change: Tensor
    keep: Tensor
    x0: Tensor
    image: Tensor
    alpha: Tensor
    top: float
    clock: str = "noise"
    form: str = "estimate"
    reference: str = "inversion"
    graded: bool = True
    restore: bool = True
    skip: bool = True
    mixed: bool = False
    margin: float | None = None
    stride: int = 1

    def take(self, index: Sequence[int]) -> Lock:
        at = list(index)
        parts = ("change", "keep", "x0", "image", "alpha")
        return replace(self, **{name: getattr(self, name)[at] for name in parts})

    # --- when a place is released ----------------------------------------------------------------------------

    def time(self, level: Level, i: int, n: int) -> float:
        """The clock at step ``i`` of ``n``: what has been released by then keeps less than this."""
        if i == n:
            return 1.0  # some schedulers stop short of a clean image; a place that keeps all is never released
        if self.clock == "step":
            return i / n
        if self.clock == "timestep":
            return 1 - float(level.t) / self.top
        return float(level.a) / float(level.a + level.s)

    def weight(self, step: Step) -> Tensor:
        """How much of the source a step's result keeps, [B,1,h,w]: 1 locked, 0 free.

        A place that is released within the step is locked for that part of it (``graded``), so that a few steps
        obey many grey levels; on the clock's own ticks that is the hard ladder.
        """
        before, after = self.time(step.now, step.i, step.n), self.time(step.to, step.i + 1, step.n)
        locked = self.keep >= after - TIE
        if not self.graded:
            return locked.to(self.keep.dtype)
        share = ((self.keep - before) / max(after - before, 1e-9)).clamp(0, 1)
        return torch.where(locked, torch.ones_like(share), share)

    def start(self, grid: Sequence[Level]) -> int:
        """The first step in which anything is free; all those before it need not run."""
        return min(self.starts(grid), default=0)

    def starts(self, grid: Sequence[Level]) -> list[int]:
        """``start`` of every row."""
        n = len(grid) - 1
        times = torch.tensor([self.time(level, i, n) for i, level in enumerate(grid)], device=self.keep.device)
        least = self.keep.flatten(1).amin(1)[:, None]
        if not self.skip:
            return [0] * len(least)
        if self.form == "state":  # step i begins from the source wherever keep > time(i)
            return (least > times[None, 1:n] + TIE).sum(1).tolist()
        return (least >= times[None, 1:] - TIE).sum(1).tolist()

    def groups(self, grid: Sequence[Level]) -> list[list[int]]:
        """Rows that leave out the same steps and look through windows of one size: these walk together."""
        sizes = [box.size for box in self.boxes()] if self.margin is not None else [None] * len(self.keep)
        keys = list(zip(self.starts(grid), sizes, strict=True))
        return [[row for row, other in enumerate(keys) if other == key] for key in dict.fromkeys(keys)]

    def boxes(self) -> list[Box]:
        """For every row the part of the latents that the network has to look at."""
        return boxes_of(self.keep < 1, self.margin or 0.0, self.stride)

    # --- what may reach a place: the one seam for gradients, optimised deltas, activations and mixtures ----------

    def gradient(self, g: Tensor, step: Step) -> Tensor:
        """A gradient or a move [B,C,h,w] where the step is free (``where``, so that nothing leaks as 0·inf)."""
        free = 1 - self.weight(step)
        return torch.where(free > 0, free * g, torch.zeros_like(g))

    def limit(self, delta: Tensor, bound: float | None = None) -> Tensor:
        """An optimised change [B,C,h',w'] projected onto the map: none where c = 0, at most ``c·bound`` elsewhere."""
        c = self.pooled(delta)
        kept = torch.where(c > 0, delta, torch.zeros_like(delta))
        return kept if bound is None else torch.maximum(torch.minimum(kept, c * bound), -c * bound)

    def pooled(self, like: Tensor) -> Tensor:
        """The change map [B,1,h',w'] at the size of latents or of an activation inside the network (of its window,
        where it looks through one)."""
        c = 1 - self.keep
        if tuple(like.shape[-2:]) == tuple(c.shape[-2:]):
            return c
        if self.margin is not None:
            c = torch.cat([box.of(row[None]) for box, row in zip(self.boxes(), c, strict=True)])
        return F.interpolate(c, like.shape[-2:], mode="area")

    def within(self, delta: Tensor, h: Tensor) -> Tensor:
        """A change of an activation ``h`` [B,C,h',w'], by the map: ``c·delta``, exactly none where c = 0.

        ``delta`` [B,C,H',W'] is for the whole picture; where the network looks through a window its part is taken.
        """
        if delta.shape[-2:] != h.shape[-2:] and self.margin is not None:
            by = self.keep.shape[-1] / delta.shape[-1]
            rows = zip(
                widened(self.boxes(), tuple(self.keep.shape[-2:])), delta.expand(len(h), -1, -1, -1), strict=True
            )
            delta = torch.stack([box.shrunk(by).of(row) for box, row in rows])
        c = self.pooled(h)
        return torch.where(c > 0, c * delta, torch.zeros_like(h))

    def mix(self, kept: Tensor, edited: Tensor) -> Tensor:
        """Two predictions as one, by the map: ``kept + c·(edited - kept)``, each exactly where c is 0 or 1."""
        c = self.pooled(kept)
        mixed = torch.where(c > 0, kept + c * (edited - kept), kept)
        return torch.where(c >= 1, edited, mixed)

    # --- at the end ------------------------------------------------------------------------------------------

    def restored(self, x0: Tensor) -> Tensor:
        """The last word: a place that keeps all is the source's, bit by bit."""
        return torch.where(self.keep >= 1, self.x0, x0) if self.restore else x0

    def composite(self, image: Tensor) -> Tensor:
        """The decoded picture [B,3,H,W] over its source; decoders change what they should only pass on."""
        over = self.image + self.alpha * (image - self.image)
        over = torch.where(self.alpha <= 0, self.image, over)
        return torch.where(self.alpha >= 1, image, over)

    def hold(self, inversion: Inversion, net: Network, cond: Condition | None = None, combine: Any = None) -> Held:
        """The lock on one trajectory, as the loop's last editor; ``cond`` and ``combine`` are the source's own."""
        grid = inversion.grid
        first = grid[0]
        eps = (inversion.x - first.a * self.x0) / first.s
        path = inversion.path if self.reference == "inversion" else None
        start = self.start(grid)
        if self.margin is not None and start < len(grid) - 1:
            net = net.as_(Window, boxes=tuple(self.boxes()), behind=self.x0)
        null = inversion.null if cond is not None and "null" in cond else None
        held = Held(
            lock=self, net=net, x=inversion.x, start=start, eps=eps, path=path, cond=cond, combine=combine, null=null
        )
        return held if start == 0 or start >= len(grid) - 1 else replace(held, x=held.state(start, grid[start], None))


@dataclass(frozen=True, eq=False)
class Held:
    """A lock on one trajectory: the last editor of the loop. ``x`` is where the walk starts, at step ``start``."""

    lock: Lock
    net: Network
    x: Tensor
    start: int
    eps: Tensor
    path: tuple[Tensor, ...] | None
    cond: Condition | None = None
    combine: Any = None
    null: tuple[Tensor, ...] | None = None
    kept: dict[int, Tensor] = field(default_factory=dict, repr=False)

    def weight(self, step: Step) -> Tensor:
        if step.i not in self.kept:
            self.kept.clear()
            self.kept[step.i] = self.lock.weight(step)
        return self.kept[step.i]

    def state(self, i: int, level: Level, step: Any) -> Tensor:
        """The source's own state at level ``i``: recorded by the inverter, or carried there by one noise, or (of
        ``reference=image``) by the noise that the state has at the moment."""
        if self.path is not None:
            return self.path[i]
        if self.lock.reference == "image" and step is not None:
            return level.noise(self.lock.x0, self._noise(step))
        return level.noise(self.lock.x0, self.eps)

    def _noise(self, step: Step) -> Tensor:
        return (step.x - step.now.a * self.lock.x0) / step.now.s

    def on_latent(self, x: Tensor, step: Step) -> Tensor:
        """State form, as published: before a step begins, the source's state wherever it is still kept."""
        if self.lock.form != "state" or step.i == 0:
            return x
        kept = self.lock.keep > self.lock.time(step.now, step.i, step.n) + TIE
        return torch.where(kept, self.state(step.i, step.now, None), x)

    def on_estimate(self, est: Estimate, step: Step) -> Estimate:
        """Estimate form: where locked, the clean image is the source and the noise is what is left of the state."""
        if self.lock.mixed and self.cond is not None:
            cond = self.cond if self.null is None else {**self.cond, "null": self.null[step.i]}
            plain = self.net.estimate(replace(step, cond=cond), (), self.combine)
            est = replace(est, x0=self.lock.mix(plain.x0, est.x0), eps=self.lock.mix(plain.eps, est.eps))
        if self.lock.form != "estimate":
            return est
        locked = self.weight(step) >= 1
        return replace(
            est, x0=torch.where(locked, self.lock.x0, est.x0), eps=torch.where(locked, self._noise(step), est.eps)
        )

    def on_next(self, x: Tensor, step: Step) -> Tensor:
        """After the step: exactly on the source's trajectory where locked, between the two where being released."""
        if self.lock.form != "estimate":
            return x
        w, source = self.weight(step), self.state(step.i + 1, step.to, step)
        between = torch.where(w > 0, x + w * (source - x), x)
        return torch.where(w >= 1, source, between)
