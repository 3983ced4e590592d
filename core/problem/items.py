"""The values of one image on its way: asked for, scored, tried, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class ScoredImage:
    """An item whose source has been scored: ``image`` [3,H,W] in [-1,1], ``before`` [K], class indices.

    ``place`` puts edited pixels back into the photograph they were cropped or scaled from.
    """

    item: Item
    image: Tensor
    before: Tensor
    source: int
    target: int
    caption: str = ""
    map: Tensor | None = None
    place: Callable[..., np.ndarray] | None = None
    failure: str | None = None


@dataclass(frozen=True, eq=False)
class Try:
    """One try of an image: where it started, how strongly, the target's probability (None: out of range), and its
    pixels uint8 [H,W,3]."""

    skip: float
    strength: float
    p: float | None
    pixels: np.ndarray


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
    shots: tuple[Try, ...] = ()

    @property
    def flipped(self) -> bool:
        return self.failure is None and int(self.after.argmax()) == self.target


@dataclass(frozen=True)
class SearchResult:
    """A search's answer for the rows of a scene: latents [B,C,h,w], strengths and what was tried, a row each.

    ``failures``: why a row failed, in one line, empty where it did not; empty as a whole when none can.
    """

    x0: Tensor
    strength: tuple[float | None, ...]
    tried: tuple[tuple[Mapping[str, float | None], ...], ...]
    ends: tuple[tuple[Tensor, ...], ...] = ()  # of every try, [C,h,w] each, when the problem keeps them
    failures: tuple[str, ...] = ()
