"""The frozen values that flow: ``Request -> Scene -> Inversion -> Frames -> Counterfactual -> Report``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from counterlens.core.classifier import Classifier
    from counterlens.core.datasets import Dataset
    from counterlens.core.levels import Level
    from counterlens.core.lock import Lock
    from counterlens.core.network import Network
    from counterlens.core.showing import Shot

Condition = Mapping[str, "Tensor"]  # branch name -> [B,T,D] (or [B,D]); every branch is one network answer
Extra = Mapping[str, Mapping[str, "Tensor"]]  # branch name -> further network inputs, such as SDXL's pooled text


@dataclass(frozen=True)
class Item:
    """One image asked for, before anything is computed. ``pixels`` uint8 [H,W,3]."""

    name: str
    pixels: np.ndarray
    digest: str
    target: str
    label: str | None = None
    notes: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """A batch of images ready for the loop. All tensors have the batch first; images are in [-1, 1].

    ``image`` [B,3,H,W], ``x0`` [B,C,h,w] its latent, ``cond``/``extra`` what the network is asked under,
    ``source``/``target`` class indices [B], ``seeds`` one integer an image, ``rows`` each row's place in the batch,
    ``strength`` [B] what a search multiplies every editor's and the guidance's own strength by (0: no change),
    ``change_map`` [B,1,H,W] in [0,1] where the picture may change, ``lock`` what holds the rest of it.
    """

    items: tuple[Item, ...]
    image: Tensor
    x0: Tensor
    cond: Condition
    extra: Extra
    source: Tensor
    target: Tensor
    seeds: tuple[int, ...]
    rows: tuple[int, ...]
    grid: tuple[Level, ...]
    net: Network
    studio: Studio
    strength: Tensor
    change_map: Tensor | None = None
    lock: Lock | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, strength: Tensor) -> Scene:
        """The same scene with another strength [B]."""
        return replace(self, strength=strength.to(self.x0.device, self.x0.dtype))

    def take(self, index: Sequence[int]) -> Scene:
        """The same scene with only these rows, in this order; a row may be taken more than once."""
        at = list(index)
        return replace(
            self,
            items=tuple(self.items[i] for i in at),
            image=self.image[at],
            x0=self.x0[at],
            cond={k: v[at] for k, v in self.cond.items()},
            extra={k: {n: v[at] for n, v in parts.items()} for k, parts in self.extra.items()},
            source=self.source[at],
            target=self.target[at],
            seeds=tuple(self.seeds[i] for i in at),
            rows=tuple(self.rows[i] for i in at),
            strength=self.strength[at],
            change_map=None if self.change_map is None else self.change_map[at],
            lock=None if self.lock is None else self.lock.take(at),
        )

    def picture(self, x0: Tensor) -> Tensor:
        """What becomes of x0 [B,C,h,w]: decoded, and put over the source where a lock says so; [B,3,H,W]."""
        image = self.studio.pipeline.decode(x0)
        return image if self.lock is None else self.lock.composite(image)


@dataclass(frozen=True)
class Studio:
    """What a scene is explained with: the lent pipeline, the explained classifier, and labelled images to learn from.

    ``others``: further classifiers that pieces asked for, by URI; ``memo``: what pieces have learned from the
    examples, or opened, kept for the run.
    """

    pipeline: Any  # core.pipeline.Pipeline: encode, decode, condition
    classifier: Classifier
    options: Mapping[str, Any] = field(default_factory=dict)
    examples: Dataset | None = None
    memo: dict[Any, Any] = field(default_factory=dict)
    others: Mapping[str, Classifier] = field(default_factory=dict)


@dataclass(frozen=True)
class Inversion:
    """A start that reproduces the source: ``x`` [B,C,h,w] at ``grid[0]``.

    ``churn[i]`` is the noise that step ``i`` does not keep, ``residual[i]`` [B,C,h,w] what it adds instead;
    ``path[i]`` [B,C,h,w] is the source's state at ``grid[i]``, where the inverter knows it; ``null[i]`` [B,T,D] the
    empty condition that step ``i`` is asked under instead of the pipeline's; ``psnr`` [B] of the reconstruction, in dB.
    """

    x: Tensor
    grid: tuple[Level, ...]
    churn: tuple[float | Tensor, ...] | None = None
    residual: tuple[Tensor, ...] | None = None
    path: tuple[Tensor, ...] | None = None
    null: tuple[Tensor, ...] | None = None
    psnr: Tensor | None = None

    def take(self, index: Sequence[int]) -> Inversion:
        at = list(index)
        residual, path, null = (
            None if t is None else tuple(r[at] for r in t) for t in (self.residual, self.path, self.null)
        )
        psnr = None if self.psnr is None else self.psnr[at]
        return replace(self, x=self.x[at], residual=residual, path=path, null=null, psnr=psnr)


@dataclass(frozen=True)
class Counterfactual:
    """What became of one image. ``image`` [3,H,W] in [-1,1]; probabilities are the explained classifier's, [K].

    ``map`` [1,H,W] where it might change, ``alpha`` [1,H,W] the weight of the edited picture over its source.
    """

    item: Item
    image: Tensor
    before: Tensor
    after: Tensor
    source: int
    target: int
    strength: float | None = None
    tried: tuple[Mapping[str, float | None], ...] = ()
    map: Tensor | None = None
    alpha: Tensor | None = None
    failure: str | None = None
    shots: tuple[Shot, ...] = ()

    @property
    def flipped(self) -> bool:
        return self.failure is None and int(self.after.argmax()) == self.target


@dataclass(frozen=True)
class Found:
    """A search's answer for the rows of a scene: latents [B,C,h,w], strengths and what was tried, a row each.

    ``failures``: why a row failed, in one line, empty where it did not; empty as a whole when none can.
    """

    x0: Tensor
    strength: tuple[float | None, ...]
    tried: tuple[tuple[Mapping[str, float | None], ...], ...]
    ends: tuple[tuple[Tensor, ...], ...] = ()  # of every try, [C,h,w] each, when the problem keeps them
    failures: tuple[str, ...] = ()
