"""Directions between two classes of embeddings: what they are learned from, and how good they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from counterlens.core.pieces.base import Piece

if TYPE_CHECKING:
    from torch import Tensor


class Direction(Piece):
    """How an image's embedding moves from one class toward another; learned from the embeddings of both."""

    kind: ClassVar[str] = "direction"

    def fit(self, pair: ClassPair) -> Callable[[Tensor], Tensor]:
        """Of two classes of unit embeddings: a function of unit embeddings [B,D] that gives their steps [B,D].

        One step (strength 1) goes as far along itself as the class means lie apart, unless the piece says otherwise.
        """
        raise NotImplementedError


Move = Callable[["Tensor"], "Tensor"]  # unit embeddings [B,D] -> their steps [B,D]


@dataclass(frozen=True, eq=False)
class ClassPair:
    """Unit embeddings ``source`` [N,D] and ``target`` [M,D] of two classes with their names.

    ``pipeline``: whose embeddings they are, for directions that ask it for more (words); None in plain arithmetic.
    """

    source: Tensor
    target: Tensor
    names: tuple[str, str] = ("source", "target")
    pipeline: Any = None

    @property
    def delta(self) -> Tensor:
        """mean(target) - mean(source), [D]; means of unit embeddings, not unit themselves."""
        return self.target.mean(0) - self.source.mean(0)

    def along(self, w: Tensor) -> Tensor:
        """The step [D] along ``w`` that is as long as the class means lie apart in its direction."""
        unit = w / w.norm().clamp_min(1e-12)
        return unit * (unit @ self.delta)

    def take(self, source: Tensor, target: Tensor) -> ClassPair:
        """The pair of these rows only."""
        return replace(self, source=self.source[source], target=self.target[target])


def constant(step: Tensor) -> Move:
    """The same step [D] for every embedding."""
    return lambda e: step.to(e).expand_as(e)
