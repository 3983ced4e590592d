"""The kind ``masker``: where a picture may change; and the maps that a request names."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.errors import UsageError
from counterlens.core.images.map_ops import JOIN, WORDS, refined
from counterlens.core.pieces.base import Piece

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.problem.problem import Problem
    from counterlens.core.problem.scene import Scene


@dataclass(frozen=True)
class Sources:
    """Maskers joined from left to right: ``attribution area=0.2 or sam points=30,40 except file path=face.png``."""

    maskers: tuple[Any, ...]
    words: tuple[str, ...]
    text: str

    @classmethod
    def read(cls, text: str, make: Any) -> Sources:
        """``make("masker", "NAME key=value")`` makes one; UsageError for a misplaced word."""
        parts: list[list[str]] = [[]]
        words = []
        for token in shlex.split(text):
            if token in WORDS:
                words.append(token)
                parts.append([])
            else:
                parts[-1].append(token)
        if not all(parts):
            raise UsageError(f"cannot read {text!r}: write MASKER [or|and|except MASKER]…, each NAME key=value")
        return cls(tuple(make("masker", shlex.join(part)) for part in parts), tuple(words), text)

    def wanted(self) -> frozenset[str]:
        return frozenset().union(*(masker.wanted() for masker in self.maskers))

    def check(self, asked: Sequence[SourceImage]) -> None:
        for masker in self.maskers:
            masker.check(asked)

    def map(self, problem: Problem) -> Tensor:
        """[B,1,H,W] in [0,1] at the size of the scene's images."""
        first, *rest = (_sound(masker, masker.map(problem), problem.scene) for masker in self.maskers)
        for word, other in zip(self.words, rest, strict=True):
            first = JOIN[word](first, other)
        return first

    def __str__(self) -> str:
        return self.text


def _sound(masker: Any, change: Tensor, scene: Scene) -> Tensor:
    shape = (len(scene), 1, *scene.image.shape[-2:])
    if tuple(change.shape) != shape:
        raise UsageError(f"masker {masker.name!r} gave a map of {list(change.shape)}; it must be {list(shape)}")
    if not bool((change >= 0).all() and (change <= 1).all()):  # NaN fails too
        raise UsageError(f"masker {masker.name!r} gave values outside [0, 1] or not a number")
    return change.to(scene.image.device, scene.image.dtype)


class Masker(Piece):
    """A change map [B,1,H,W] in [0,1] for a scene; 1 = may change.

    What every map can be refined by is done in the order of the fields below.
    """

    kind: ClassVar[str] = "masker"
    gives: ClassVar[frozenset[str]] = frozenset({"map"})
    invert: bool = Field(False, description="swap what may change and what is kept")
    power: float = Field(1.0, description="exponent of the map: above 1 weakens greys, below 1 strengthens them", gt=0)
    area: float | None = Field(
        None, description="at most this share of the picture may change, the largest values first", gt=0, le=1
    )
    shrink: float = Field(0.0, description="pixels that it shrinks by first: specks vanish", ge=0)
    grow: float = Field(0.0, description="pixels that the map grows outward by", ge=0)
    feather: float = Field(0.0, description="pixels over which it falls to 0 outside, outward only", ge=0)
    blur: float = Field(0.0, description="standard deviation in pixels of a last Gaussian blur", ge=0)
    cap: float = Field(1.0, description="factor of the whole map: the largest change", gt=0, le=1)

    def mask(self, scene: Scene) -> Tensor:
        """The map as found, [B,1,H,W] in [0,1]."""
        raise NotImplementedError

    def found(self, problem: Problem) -> Tensor:
        """The map of a problem, for maskers that look at more than the scene (a first pass of the method)."""
        return self.mask(problem.scene)

    def map(self, problem: Problem) -> Tensor:
        """The map as refined by the options, [B,1,H,W] in [0,1]."""

        options = ("invert", "power", "area", "grow", "feather", "cap", "shrink", "blur")
        return refined(self.found(problem), **{name: getattr(self, name) for name in options})
