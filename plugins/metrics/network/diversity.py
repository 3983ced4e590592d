"""Do several counterfactuals of one image differ from each other?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.core.metrics.metric import NAN, CounterfactualPair, ImageMetric, Value
from counterlens.plugins.metrics.network import lpips

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.metrics.context import Context


class Diversity(ImageMetric):
    """Mean distance between all pairs of counterfactuals of one image, each under its own seed.

    nan where fewer than two were made, None of rows that were asked for one only (controls).
    """

    name: ClassVar[str] = "diversity"
    needs: ClassVar[frozenset[str]] = frozenset({"several"})
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (0, None)
    source: ClassVar[str] = "σ_L of ACE with distance=lpips-vgg"
    distance: Literal["l1", "lpips-alex", "lpips-vgg", "lpips-squeeze"] = Field("l1", description="between two of them")
    weights: str = Field("", description="the backbone's weights, as of lpips")

    def names(self, context: Context) -> tuple[str, ...]:
        return ("diversity" if self.distance == "l1" else f"diversity_{self.distance.replace('-', '_')}",)

    def wanted(self) -> frozenset[str]:
        return self.needs if self.distance == "l1" else self.needs | {"weights"}

    def missing(self, context: Context) -> str:
        net = self.distance.removeprefix("lpips-")
        return super().missing(context) or ("" if net == "l1" else lpips.missing(net, self.weights, context))

    def measure(self, pairs: Sequence[CounterfactualPair], context: Context) -> Mapping[str, Sequence[Value]]:
        return {self.names(context)[0]: [self.of(pair, context) for pair in pairs]}

    def of(self, pair: CounterfactualPair, context: Context) -> Value:
        import torch

        if not pair.others:
            return None
        made = [picture for picture in (pair.counterfactual, *pair.others) if picture is not None]
        if len(made) < 2:
            return NAN
        first, second = (torch.stack(side).to(context.device) for side in zip(*combinations(made, 2), strict=True))
        with torch.no_grad():
            return float(self.between(first.float(), second.float(), context).mean())

    def between(self, x: Tensor, y: Tensor, context: Context) -> Tensor:
        if self.distance == "l1":
            return (x - y).abs().flatten(1).mean(1)
        return lpips.distance(self.distance.removeprefix("lpips-"), self.weights, x, y, context)
