from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from counterlens.core.conditioning.directions import Direction

if TYPE_CHECKING:
    from counterlens.core.conditioning.directions import ClassPair, Move


class Matched(Direction):
    """The mean way from an image to its nearest neighbours in the other class, over all images of both classes.

    Neighbours have their other traits in common, so that what the classes differ in only as a whole (or by the
    encoder's mixing of traits) cancels, as in matching estimators (Rubin 1973). Steps are shorter than the mean
    difference's.
    """

    name: ClassVar[str] = "matched"
    k: int = Field(5, description="neighbours", ge=1)

    def fit(self, pair: ClassPair) -> Move:
        from counterlens.core.conditioning.directions import constant

        source, target = pair.source, pair.target
        cosine = source @ target.T
        there = target[cosine.topk(min(self.k, len(target)), dim=1).indices].mean(1) - source
        back = target - source[cosine.T.topk(min(self.k, len(source)), dim=1).indices].mean(1)
        return constant((there.mean(0) + back.mean(0)) / 2)
