"""A problem is what a search solves: a scene, its method's pieces, and the few moves that every search makes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor

from counterlens.core.diffusion.inversion import NullConditions, joined
from counterlens.core.diffusion.loop import denoise
from counterlens.core.images.pixels import as_saved

if TYPE_CHECKING:
    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.diffusion.loop import Frame
    from counterlens.core.diffusion.step import Step
    from counterlens.core.problem.inversion_cache import Inversions, Inverts
    from counterlens.core.problem.scene import Scene
    from counterlens.core.problem.view import View


class Edits(Protocol):
    """What a problem asks of an editor."""

    name: ClassVar[str]
    mixes: ClassVar[bool]  # whether the rows of a step may be at different noise levels

    def bind(self, scene: Scene) -> Any: ...

    def on_problem(self, problem: Any) -> Any: ...


class Measures(Protocol):
    """What a problem asks of a guidance or a regularizer: one number an image, lower is better."""

    weight: float

    @property
    def draws(self) -> bool: ...  # whether it looks at random draws, so that two looks at one image differ

    def __call__(self, view: View, step: Step) -> Tensor: ...


class Combines(Protocol):
    """What a problem asks of a combiner: one prediction out of the branches."""

    def __call__(self, branches: Mapping[str, Tensor], step: Step, /) -> Tensor: ...


@dataclass(frozen=True)
class Problem:
    """A scene with the pieces of its method; immutable, ``with_`` and ``take`` give variations."""

    scene: Scene
    inverter: Inverts
    combiner: Combines
    editors: tuple[Edits, ...] = ()
    guidance: tuple[Measures, ...] = ()
    regularizers: tuple[Measures, ...] = ()
    search: Any = None  # a Search of method_pieces.py
    tau: float = 0.9
    batch: int = 16
    kept: dict[tuple[float | None, int], Inversion] = field(default_factory=dict, repr=False)
    kept_steps: dict[Any, Tensor] = field(default_factory=dict, repr=False)  # of inversions whose starts share steps
    paid: dict[int, int] = field(default_factory=dict, repr=False)  # evaluations of a row's longest such inversion
    traced: dict[Any, Any] = field(default_factory=dict, repr=False)  # what editors recorded of a row's own trajectory
    store: Inversions | None = field(default=None, repr=False)
    keep: bool = False  # whether the ends of all tries are kept, to be shown
    tick: Callable[[int, int], None] = field(default=lambda done, total: None, repr=False)

    @property
    def energies(self) -> tuple[Measures, ...]:
        return (*self.guidance, *self.regularizers)

    def with_(self, **changes: Any) -> Problem:
        return replace(self, **changes)

    def take(self, index: Sequence[int]) -> Problem:
        """The same problem for these rows of its scene."""
        return replace(self, scene=self.scene.take(index))

    def invert(self, skip: float | None = None) -> Inversion:
        """The inverter's start for every row; each image is inverted once at a skip, whoever asks again."""
        rows = self.scene.rows
        new = [rows.index(row) for row in dict.fromkeys(rows) if (skip, row) not in self.kept]
        if new and self.store is not None and self.store.together:
            self.take(new).stored_together(skip, self.store)
        elif new and self.store is not None:
            self.kept.update({(skip, rows[at]): self.take([at]).stored(skip, self.store) for at in new})
        elif new:
            made = self.inverter.invert(self.take(new), skip)
            self.kept.update({(skip, rows[at]): made.take([k]) for k, at in enumerate(new)})
        inversion = joined([self.kept[skip, row] for row in rows])
        if inversion.psnr is not None:
            self.scene.net.meter.psnr.update(zip(rows, inversion.psnr.tolist(), strict=True))
        return inversion

    def stored_together(self, skip: float | None, store: Inversions) -> None:
        """Inversions found, the others made in one batch; kept each for itself, with its share of the costs."""
        rows, missing = self.scene.rows, []
        for at, row in enumerate(rows):
            one = self.take([at])
            if found := store.get(store.key(one.scene, self.inverter, self.combiner, skip, self.batch), one.scene):
                self.kept[skip, row], costs = found
                self._charge(row, costs)
            else:
                missing.append(at)
        if not missing:
            return
        part, meter, begun = self.take(missing), self.scene.net.meter, time.perf_counter()
        before = {row: (meter.forward[row], meter.gradient[row]) for row in part.scene.rows}
        made = self.inverter.invert(part, skip)
        seconds = (time.perf_counter() - begun) / len(missing)
        for k, row in enumerate(part.scene.rows):
            one, inversion = part.take([k]), made.take([k])
            spent = {"forward": meter.forward[row] - before[row][0], "gradient": meter.gradient[row] - before[row][1]}
            key = store.key(one.scene, self.inverter, self.combiner, skip, self.batch)
            store.put(key, inversion, one.scene, {**spent, "seconds": seconds})
            self.kept[skip, row] = inversion

    def _charge(self, row: int, costs: Mapping[str, float]) -> None:
        """Count an inversion that was found as if it had been made, and what it spared."""
        meter, due = self.scene.net.meter, self._due(row, int(costs["forward"]))
        for count in (meter.forward, meter.reused):
            count[row] += due
        meter.gradient[row] += int(costs["gradient"])
        meter.spared[row] = meter.spared.get(row, 0.0) + costs["seconds"]

    def stored(self, skip: float | None, store: Inversions) -> Inversion:
        """The inversion of a scene of one row, found or made and kept.

        What is kept is made alone: its last bits must not depend on who asked for it first, and with whom. It counts
        as it would without the store, where starts may share their steps.
        """
        scene, meter, (row,) = self.scene, self.scene.net.meter, self.scene.rows
        key = store.key(scene, self.inverter, self.combiner, skip, self.batch)
        if found := store.get(key, scene):
            inversion, costs = found
            self._charge(row, costs)
            return inversion
        before, begun = (meter.forward[row], meter.gradient[row]), time.perf_counter()
        inversion = self.inverter.invert(self.with_(kept_steps={}), skip)
        spent = {"forward": meter.forward[row] - before[0], "gradient": meter.gradient[row] - before[1]}
        store.put(key, inversion, scene, {**spent, "seconds": time.perf_counter() - begun})
        meter.forward[row] = before[0] + self._due(row, spent["forward"])
        return inversion

    def _due(self, row: int, forward: int) -> int:
        """What an inversion of ``forward`` evaluations adds, when the steps of a longer one serve it too."""
        if not self.inverter.nested:
            return forward
        already, self.paid[row] = self.paid.get(row, 0), max(self.paid.get(row, 0), forward)
        return max(0, forward - already)

    @property
    def mixes(self) -> bool:
        """Whether rows may be at different noise levels: no guidance, no lock, and only editors that say so."""
        alone = not self.energies and self.scene.lock is None
        return alone and all(editor.mixes for editor in self.editors)

    def frames(self, inversion: Inversion, extra_editors: Sequence[Any] = ()) -> Iterator[Frame]:
        """The edited trajectory from an inversion of this scene: method's editors first, then ``extra_editors``.

        The scene's lock comes last, so that nothing else has a say about what it holds; steps in which everything is
        held are left out. An inversion's own null conditions come first.
        """
        scene = self.scene
        nulls = [NullConditions(inversion.null)] if inversion.null is not None and "null" in scene.cond else []
        own = [self._started(editor.bind(scene), inversion) for editor in self.editors]
        editors = [*nulls, *own, *extra_editors]
        net, x, start = scene.net, inversion.x, 0
        if scene.lock is not None:
            held = scene.lock.hold(inversion, net, scene.cond, self.combiner)
            net, x, start = held.net, held.x, held.start
            editors.append(held)
            net.meter.left_out(scene.rows, start)
        return denoise(
            net,
            x,
            inversion.grid,
            scene.cond,
            editors,
            combine=self.combiner,
            churn=inversion.churn,
            residual=inversion.residual,
            extra=scene.extra,
            rows=scene.rows,
            start=start,
        )

    def _started(self, bound: Any, inversion: Inversion) -> Any:
        """A bound editor that has been told where the trajectory begins."""
        begin = getattr(bound, "on_start", None)
        return bound if begin is None else begin(self, inversion)

    def walk(self, inversion: Inversion, extra_editors: Sequence[Any] = ()) -> Tensor:
        """The end of the edited trajectory: x0 [B,C,h,w]."""
        x0, lock = inversion.x, self.scene.lock
        if len(inversion.grid) > 1:
            frame = None
            for frame in self.frames(inversion, extra_editors):  # noqa: B007
                pass
            x0 = self.scene.x0 if frame is None else frame.x / inversion.grid[-1].a  # None: all of it is locked
        return x0 if lock is None else lock.restored(x0)

    @torch.no_grad()
    def score(self, x0: Tensor) -> Tensor:
        """The explained classifier's probabilities [B,K] of decoded latents, clamped and rounded as a saved PNG."""
        return self.scene.resources.classifier.probabilities(as_saved(self.scene.picture(x0)))

    def target_of(self, probabilities: Tensor) -> Tensor:
        """p(target) [B]."""
        return probabilities.gather(1, self.scene.target.to(probabilities.device)[:, None])[:, 0]
