"""Against the true counterfactual, which differs from the source in its class and in nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from counterlens.core.metrics.metric import PictureMetric
from counterlens.plugins.metrics.pixels.extent import Changed

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.metrics.metric import CounterfactualPair


def truths(source: Tensor, pairs: Sequence[CounterfactualPair]) -> Tensor:
    """The true counterfactuals [B,3,H,W]; nan where one is not known."""
    import torch

    none = torch.full_like(source[0], float("nan"))
    return torch.stack([none if pair.truth is None else pair.truth.to(none) for pair in pairs])


class TruthL1(PictureMetric):
    """Mean absolute difference from the true counterfactual."""

    name: ClassVar[str] = "truth_l1"
    needs: ClassVar[frozenset[str]] = frozenset({"truth"})
    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 1)

    def compare(self, source: Tensor, edited: Tensor, pairs: Sequence[CounterfactualPair], context: Any) -> Tensor:
        return (edited - truths(source, pairs)).double().abs().flatten(1).mean(1)


class TruthGain(PictureMetric):
    """Share of the way to the true counterfactual: 1 is there, 0 no nearer than the source, below 0 farther."""

    name: ClassVar[str] = "truth_gain"
    needs: ClassVar[frozenset[str]] = frozenset({"truth"})
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (None, 1)

    def compare(self, source: Tensor, edited: Tensor, pairs: Sequence[CounterfactualPair], context: Any) -> Tensor:
        truth = truths(source, pairs)
        left, whole = ((x - truth).double().abs().flatten(1).sum(1) for x in (edited, source))
        return 1 - left / whole


class EditPrecision(Changed):
    """Share of the changed pixels that the true counterfactual changes too; nan when nothing changed."""

    name: ClassVar[str] = "edit_precision"
    needs: ClassVar[frozenset[str]] = frozenset({"truth"})
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 1)

    def compare(self, source: Tensor, edited: Tensor, pairs: Sequence[CounterfactualPair], context: Any) -> Tensor:
        hit, made, _ = self.overlap(source, edited, pairs)
        return hit / made

    def overlap(
        self, source: Tensor, edited: Tensor, pairs: Sequence[CounterfactualPair]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers of pixels [B] that both change, that the edit changes, that the truth changes."""
        import torch

        truth = truths(source, pairs)
        made = self.changed(source, edited).flatten(1).double()
        wanted = self.changed(source, truth).flatten(1).double()
        known = ~truth.flatten(1).isnan().any(1)
        counts = ((made * wanted).sum(1), made.sum(1), wanted.sum(1))
        hit, made, wanted = (torch.where(known, count, torch.full_like(count, float("nan"))) for count in counts)
        return hit, made, wanted


class EditRecall(EditPrecision):
    """Share of the pixels that the true counterfactual changes which the edit changes too."""

    name: ClassVar[str] = "edit_recall"

    def compare(self, source: Tensor, edited: Tensor, pairs: Sequence[CounterfactualPair], context: Any) -> Tensor:
        hit, _, wanted = self.overlap(source, edited, pairs)
        return hit / wanted
