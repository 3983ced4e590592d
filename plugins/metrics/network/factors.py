"""How much every known factor changed, read off both pictures by the domain's regressor, and which should have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.metrics.metric import CounterfactualPair, PictureMetric

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.data.domain import Domain
    from counterlens.core.metrics.context import Context


def changes(domain: type[Domain], source: Tensor, edited: Tensor) -> dict[str, Tensor]:
    """Absolute change of every factor [B] as a share of its range; of a circular one half a turn is 1."""
    before, after = domain.read_factors(source), domain.read_factors(edited)
    found = {}
    for name, width in domain.widths.items():
        step = (after[name] - before[name]).double().abs()
        if name in domain.circular:
            step = step % 1
            found[name] = step.minimum(1 - step) * 2
        else:
            found[name] = step / width
    return found


class FactorChange(PictureMetric):
    """Change of every known factor, as a share of its range; only what the classifier uses ought to change."""

    name: ClassVar[str] = "factor_change"
    needs: ClassVar[frozenset[str]] = frozenset({"factors"})
    bounds: ClassVar[tuple[float | None, float | None]] = (0, None)
    cost: ClassVar[str] = "network"

    def names(self, context: Context) -> tuple[str, ...]:
        domain = context.domain
        return tuple(f"factor_{name}" for name in domain.widths) if domain else ()

    def compare(
        self, source: Tensor, edited: Tensor, pairs: Sequence[CounterfactualPair], context: Any
    ) -> Mapping[str, Tensor]:
        found = changes(context.domain, source, edited)
        return {f"factor_{name}": value for name, value in found.items()}


class Faithfulness(PictureMetric):
    """Change of the factor that the classifier uses less that of the factor people would guess.

    Both as shares of their ranges. Near 1: the edit shows what the classifier uses. Near -1: it shows a class's
    typical look, whatever the classifier uses. Near 0: it changes neither (an adversarial example) or both.
    """

    name: ClassVar[str] = "faithfulness"
    needs: ClassVar[frozenset[str]] = frozenset({"factors", "classifier"})
    population: ClassVar[str] = "flipped"
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (-1, 1)
    cost: ClassVar[str] = "network"
    used: str = Field("", description="factor that the classifier decides by; empty: what its domain says")
    guessed: str = Field("", description="factor that people would guess; empty: what its domain says")

    def pick(self, context: Context) -> tuple[str, str]:
        """(used, guessed); empty where it is not known."""
        domain, uri = context.domain, context.classifier_uri
        known = domain.causes.get(uri, "") if domain else "", domain.guesses.get(uri, "") if domain else ""
        return self.used or known[0], self.guessed or known[1]

    def missing(self, context: Context) -> str:
        if why := super().missing(context):
            return why
        widths = context.domain.widths if context.domain else {}
        if all(factor in widths for factor in self.pick(context)):
            return ""
        return f"what {context.classifier_uri} decides by is not known: give used= and guessed= of {', '.join(widths)}"

    def compare(self, source: Tensor, edited: Tensor, pairs: Sequence[CounterfactualPair], context: Any) -> Tensor:
        used, guessed = self.pick(context)
        found = changes(context.domain, source, edited)
        return (found[used] - found[guessed]).clamp(-1, 1)
