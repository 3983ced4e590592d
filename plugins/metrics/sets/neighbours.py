"""Set metrics that keep the features: KID, and precision and recall by nearest neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.metrics.context import features_missing
from counterlens.core.metrics.metric import Keyed, SetMetric

if TYPE_CHECKING:
    import numpy as np

    from counterlens.core.metrics.context import Context


@dataclass(frozen=True)
class Kept:
    """Features by key of both sides; merging is a union, and they are read in the order of their keys."""

    real: Mapping[str, np.ndarray]
    fake: Mapping[str, np.ndarray]

    def merge(self, other: Kept) -> Kept:
        return Kept({**self.real, **other.real}, {**self.fake, **other.fake})

    def table(self, side: str) -> np.ndarray:
        """[N,D] in float64."""
        import numpy as np

        found = getattr(self, side)
        return np.stack([found[key] for key in sorted(found)]).astype(np.float64)


class FeatureMetric(SetMetric):
    """Common part of metrics that compare pictures by features."""

    cost: ClassVar[str] = "network"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    features: str = Field("judge", description="judge, classifier, a classifier's URI, inception or clip:ID")

    @property
    def uri(self) -> str:
        return self.features

    def missing(self, context: Context) -> str:
        return super().missing(context) or features_missing(self.uri, context)


class Keeping(FeatureMetric):
    """Common part: features of both sides, kept."""

    bounds: ClassVar[tuple[float | None, float | None]] = (None, None)

    def gather(self, reals: Iterable[Keyed], fakes: Iterable[Keyed], context: Context) -> Kept:
        def kept(pictures: Iterable[Keyed]) -> dict[str, np.ndarray]:
            there = [(key, picture) for key, picture in pictures if picture is not None]
            rows = context.features(self.features).of([picture for _, picture in there]).numpy()
            return dict(zip([key for key, _ in there], rows, strict=True)) if there else {}

        return Kept(kept(reals), kept(fakes))

    def counts(self, state: Kept) -> tuple[int, int]:
        return len(state.real), len(state.fake)


class Kid(Keeping):
    """Kernel distance between the features of both sides: unbiased, so usable with few pictures; may be negative."""

    name: ClassVar[str] = "kid"
    higher_is_better: ClassVar[bool | None] = False
    source: ClassVar[str] = "Bińkowski et al. 2018: kernel (x·y/D + 1)³, all pictures at once"

    def result(self, state: Kept) -> dict[str, float]:
        import numpy as np

        if min(self.counts(state)) < 2:
            return {self.name: float("nan")}
        x, y = state.table("real"), state.table("fake")
        n, m = len(x), len(y)
        xx, yy, xy = ((a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
        return {self.name: float(within - 2 * xy.mean())}

    def least(self) -> int:
        return 50


class PrecisionRecall(Keeping):
    """Shares of counterfactuals among real pictures (precision) and of real ones among counterfactuals (recall)."""

    name: ClassVar[str] = "precision_recall"
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 1)
    source: ClassVar[str] = "Kynkäänniemi et al. 2019"
    neighbours: int = Field(3, description="a picture's ball reaches to this neighbour of its own side", ge=1)

    def names(self, context: Any) -> tuple[str, ...]:
        return ("precision", "recall")

    def result(self, state: Kept) -> dict[str, float]:
        if min(self.counts(state)) <= self.neighbours:
            return {"precision": float("nan"), "recall": float("nan")}
        real, fake = state.table("real"), state.table("fake")
        return {"precision": self.covered(fake, real), "recall": self.covered(real, fake)}

    def covered(self, points: np.ndarray, centres: np.ndarray) -> float:
        """Share of the points that lie within the ball of at least one centre."""
        import numpy as np
        from scipy.spatial.distance import cdist

        radius = np.partition(cdist(centres, centres), self.neighbours, axis=1)[:, self.neighbours]  # 0 is itself
        return float((cdist(points, centres) <= radius).any(1).mean())

    def least(self) -> int:
        return 200
