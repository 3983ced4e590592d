"""Could the counterfactual be a real image of its class? A number that no classifier's decision enters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.errors import UsageError
from counterlens.core.metrics.context import features_missing
from counterlens.core.metrics.metric import NAN, YES_NO, CounterfactualPair, ImageMetric, Value

if TYPE_CHECKING:
    from counterlens.core.metrics.context import Context


class Plausibility(ImageMetric):
    """Share of the real images of the target class that are further from their nearest real neighbours than the
    counterfactual is: 0.5 is typical, 0.01 says that hardly any real image is as odd.
    """

    name: ClassVar[str] = "plausibility"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "examples"})
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 1)
    cost: ClassVar[str] = "classifier"
    source: ClassVar[str] = "conformal p-value (Vovk et al. 2005) of the mean distance to the nearest neighbours"
    features: str = Field("judge", description="judge, classifier, a classifier's URI, inception or clip:ID")
    per_class: int = Field(200, description="real images of a class", ge=3)
    neighbours: int = Field(5, description="nearest ones whose mean distance counts", ge=1)

    def missing(self, context: Context) -> str:
        return super().missing(context) or features_missing(self.features, context)

    def measure(self, pairs: Sequence[CounterfactualPair], context: Context) -> Mapping[str, Sequence[Value]]:
        return {self.name: [self.value(pair, context) if pair.within(self.population) else None for pair in pairs]}

    def value(self, pair: CounterfactualPair, context: Context) -> float:
        if pair.counterfactual is None:
            return NAN
        label = str(pair.record["target"])
        try:
            said = self._reals(pair, context).plausibility([pair.counterfactual.float()], [label])[0][0]
        except UsageError:  # the data has no training part
            return NAN
        return NAN if said is None else said

    def _reals(self, pair: CounterfactualPair, context: Context) -> Any:
        from counterlens.core.metrics.real_images import RealImages

        size = (int(pair.source.shape[-2]), int(pair.source.shape[-1]))

        def make() -> RealImages:
            data = context.catalogue.open_dataset(context.examples_uri)
            return RealImages(
                dataset=data,
                features=context.features(self.features),
                size=size,
                per_class=self.per_class,
                k=self.neighbours,
            )

        return context.once(("real images", self.features, size, self.per_class, self.neighbours), make)


class Plausible(Plausibility):
    """Share of the counterfactuals that are less odd than the oddest 5 % of the real images of their class."""

    name: ClassVar[str] = "plausible"
    unit: ClassVar[str] = YES_NO
    level: float = Field(0.05, description="share of the real images that are odder", gt=0, lt=1)

    def value(self, pair: CounterfactualPair, context: Context) -> float:
        said = super().value(pair, context)
        return 0.0 if pair.failed else said if said != said else float(said > self.level)
