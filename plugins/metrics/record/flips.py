"""Does the explained classifier decide the counterfactual as the target? Shares of all images, failures included."""

from __future__ import annotations

from typing import ClassVar

from counterlens.core.metrics.metric import NAN, YES_NO, CounterfactualPair, RecordMetric


class Share(RecordMetric):
    """1 or 0 an image; the estimate is a share. A failed item counts as 0: it did not reach what was asked."""

    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 1)
    unit: ClassVar[str] = YES_NO


class FlipRate(Share):
    """Share of all images whose counterfactual the explained classifier decides as the target (validity)."""

    name: ClassVar[str] = "flip_rate"
    source: ClassVar[str] = (
        "validity, Wachter et al. 2017; FR of ACE (2023), whose denominator is not always all images"
    )

    def of(self, pair: CounterfactualPair) -> float:
        return float(pair.flipped)


class FlipRateCorrect(FlipRate):
    """Flip rate among images that the explained classifier gets right."""

    name: ClassVar[str] = "flip_rate_correct"
    population: ClassVar[str] = "correct"


class TargetAtTau(Share):
    """Share of all images whose counterfactual reaches the probability τ of the target that the method aims at."""

    name: ClassVar[str] = "target_at_tau"
    source: ClassVar[str] = "Target@τ"

    def of(self, pair: CounterfactualPair) -> float:
        if pair.failed:
            return 0.0
        reached = pair.record.get("reached")
        return NAN if reached is None else float(reached)


class FlipOut(Share):
    """Share of all images whose decision changed to a class that is neither their own nor the target."""

    name: ClassVar[str] = "flip_out"
    higher_is_better: ClassVar[bool | None] = False
    source: ClassVar[str] = "flip-out of DBVCE_eval"

    def of(self, pair: CounterfactualPair) -> float:
        if pair.failed:
            return 0.0
        after = pair.record.get("probabilities_after")
        if not after:
            return NAN
        return float(max(after, key=after.__getitem__) not in (pair.record["source"], pair.record["target"]))
