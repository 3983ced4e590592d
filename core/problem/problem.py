"""A problem is what a search solves: a scene, its method's pieces, and the few moves that every search makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor

from counterlens.core.diffusion.inversion import NullConditions
from counterlens.core.diffusion.loop import denoise
from counterlens.core.images.pixels import as_saved
from counterlens.core.problem.inversion_ledger import InversionLedger
from counterlens.core.utils.memo import Memo

if TYPE_CHECKING:
    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.diffusion.loop import Frame
    from counterlens.core.diffusion.step import Step
    from counterlens.core.problem.inversion_cache import Inverts
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
    inversions: InversionLedger = field(default_factory=InversionLedger, repr=False)
    traced: Memo = field(default_factory=Memo, repr=False)  # what editors recorded of a row's own trajectory
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
        return self.inversions.invert(self, skip)

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
