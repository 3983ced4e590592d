"""Does the explained classifier decide the counterfactual as the target? Shares of all images, failures included."""

from __future__ import annotations

from typing import ClassVar

from counterlens.core.metrics import NAN, YES_NO, Pair, RecordMetric


class Share(RecordMetric):
    """1 or 0 an image; the estimate is a share. A failed item counts as 0: it did not reach what was asked."""

    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 1)
    unit: ClassVar[str] = YES_NO


class FlipRate(Share):
    """Share of all images whose counterfactual the explained classifier decides as the target (validity)."""

    name: ClassVar[str] = "flip_rate"
    source: ClassVar[str] = "Wachter et al. 2017; validity"

    def of(self, pair: Pair) -> float:
        return float(pair.flipped)


class FlipRateCorrect(FlipRate):
    """Flip rate among images that the explained classifier gets right."""

    name: ClassVar[str] = "flip_rate_correct"
    population: ClassVar[str] = "correct"


class TargetAtTau(Share):
    """Share of all images whose counterfactual reaches the probability τ of the target."""

    name: ClassVar[str] = "target_at_tau"

    def of(self, pair: Pair) -> float:
        if pair.failed:
            return 0.0
        return float(pair.record["reached"]) if "reached" in pair.record else NAN
