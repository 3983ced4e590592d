"""COUT: how early the decision changes when the edit is pasted into the source, most changed pixels first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.metrics.metric import PictureMetric

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.metrics.metric import CounterfactualPair


class Cout(PictureMetric):
    """Area under p(target) less that under p(own class) while the edit is pasted in; 1: few pixels decide.

    The share of pasted pixels runs from 0 to 1 in ``steps`` steps, so the value lies in [-1, 1]. ``legacy`` counts the
    last, smaller chunk in full, which reaches ±1.02, and has no value for pictures that are equal.
    """

    name: ClassVar[str] = "cout"
    needs: ClassVar[frozenset[str]] = frozenset({"classifier"})
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (-1, 1)
    cost: ClassVar[str] = "classifier"
    source: ClassVar[str] = "Khorram and Fuxin 2022 (C3LT); chunks as in ACE"
    steps: int = Field(50, description="chunks in which the edit is pasted in", ge=1)
    legacy: bool = Field(False, description="chunks of floor(pixels/steps), the last one counted in full")

    def names(self, context: Any) -> tuple[str, ...]:
        return ("cout_legacy" if self.legacy else "cout",)

    def compare(self, source: Tensor, edited: Tensor, pairs: Sequence[CounterfactualPair], context: Any) -> Tensor:
        import torch

        classifier = context.classifier
        target = torch.tensor([classifier.label_index(pair.record["target"]) for pair in pairs])
        own = torch.tensor([classifier.label_index(pair.record["source"]) for pair in pairs])
        order = (edited - source).abs().sum(1).flatten(1).sort(dim=1, descending=True, stable=True).indices
        rank = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order).to(order))
        counts = self.counts(order.shape[1])
        rise = torch.zeros(len(counts), len(pairs), dtype=torch.float64)
        for k, count in enumerate(counts):
            pasted = (rank < count).view(len(pairs), 1, *source.shape[-2:])
            p = classifier.evaluate(torch.where(pasted, edited, source), context.batch).double().cpu()
            rise[k] = (p.gather(1, target[:, None]) - p.gather(1, own[:, None]))[:, 0]
        return self.area(rise, counts, order.shape[1], (edited == source).flatten(1).all(1).cpu())

    def counts(self, pixels: int) -> list[int]:
        """How many pixels are pasted at every point of the curve, from none to all."""
        if self.legacy:
            return [*range(0, pixels, max(1, pixels // self.steps)), pixels]
        return [round(k * pixels / self.steps) for k in range(self.steps + 1)]

    def area(self, rise: Tensor, counts: Sequence[int], pixels: int, equal: Tensor) -> Tensor:
        """Trapezoids under p(target) - p(own) [K+1,B]: widths are shares of the pixels; legacy: one chunk each."""
        import torch

        widths = torch.tensor(counts, dtype=torch.float64).diff() / pixels
        if self.legacy:
            widths = torch.full_like(widths, max(1, pixels // self.steps) / pixels)
        found = ((rise[1:] + rise[:-1]) / 2 * widths[:, None]).sum(0)
        return torch.where(equal, torch.full_like(found, float("nan")), found) if self.legacy else found
