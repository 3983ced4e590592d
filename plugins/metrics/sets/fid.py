"""Three distances that are all called FID: of whole sets, of crossed halves ("sFID" of counterfactual papers), and of
spatial features ("sFID" of guided diffusion). Here each has its own name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from counterlens.core.metrics.metric import Keyed
from counterlens.core.utils.batched import batched
from counterlens.plugins.metrics.sets.moments import Moments, frechet
from counterlens.plugins.metrics.sets.neighbours import FeatureMetric

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.metrics.context import Context


@dataclass(frozen=True)
class Sides:
    """Moments by side (``real`` or ``fake``) and part; merging adds them part by part, exactly."""

    parts: Mapping[tuple[str, str], Moments]

    def merge(self, other: Sides) -> Sides:
        keys = self.parts.keys() | other.parts.keys()
        return Sides({key: self[key].merge(other[key]) for key in keys})

    def __getitem__(self, key: tuple[str, str]) -> Moments:
        return self.parts.get(key, Moments())

    def count(self, side: str) -> int:
        return sum(moments.n for (its, _), moments in self.parts.items() if its == side)


class Frechet(FeatureMetric):
    """Common part: features of both sides into moments."""

    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[tuple[float | None, float | None]] = (0, None)

    def part(self, key: str) -> str:
        """The part that a picture belongs to, which its key alone decides."""
        return ""

    def gather(self, reals: Iterable[Keyed], fakes: Iterable[Keyed], context: Context) -> Sides:
        state = Sides({})
        for side, pictures in (("real", reals), ("fake", fakes)):
            for chunk in batched(pictures, 256):
                groups: dict[str, list[Tensor]] = {}
                for key, picture in chunk:
                    if picture is not None:
                        groups.setdefault(self.part(key), []).append(picture)
                found = {(side, part): self.moments(group, context) for part, group in groups.items()}
                state = state.merge(Sides(found))
        return state

    def moments(self, pictures: list[Tensor], context: Context) -> Moments:
        return Moments.of(context.features(self.uri).of(pictures))

    def counts(self, state: Sides) -> tuple[int, int]:
        return state.count("real"), state.count("fake")

    def quick(self, state: Sides) -> bool:
        """Roots of matrices of more than 512 rows take seconds each."""
        return all(moments.total is None or len(moments.total) <= 512 for moments in state.parts.values())

    def least(self) -> int:
        return 2048

    def result(self, state: Sides) -> dict[str, float]:
        return {self.name: frechet(state["real", ""], state["fake", ""])}


class Fid(Frechet):
    """Fréchet distance between the features of the real pictures and of the counterfactuals.

    Near 0 for pictures that were not changed: read it beside the control rows, and prefer ``split_fid`` where the
    real pictures are the sources.
    """

    name: ClassVar[str] = "fid"
    source: ClassVar[str] = "Heusel et al. 2017"


class SplitFid(Frechet):
    """FID between real pictures of one half and counterfactuals of the other half, mean of both ways.

    No source is compared with its own counterfactual. The hash of their common key decides the half.
    """

    name: ClassVar[str] = "split_fid"
    paired: ClassVar[bool] = True
    source: ClassVar[str] = "sFID of ACE (Jeanneret et al. 2023)"

    def part(self, key: str) -> str:
        return "AB"[hashlib.sha256(key.encode()).digest()[0] & 1]

    def result(self, state: Sides) -> dict[str, float]:
        crossed = (frechet(state["real", "A"], state["fake", "B"]), frechet(state["real", "B"], state["fake", "A"]))
        return {self.name: sum(crossed) / 2}


class SpatialFid(Frechet):
    """FID of spatial features: the first seven channels of a convolution's map, so that places count."""

    name: ClassVar[str] = "spatial_fid"
    source: ClassVar[str] = "sFID of Nash et al. 2021 and guided diffusion: mixed_6/conv of Inception"

    @property
    def uri(self) -> str:
        return f"{self.features}/spatial"
