"""How sure the explained classifier is: probability of the target, its change, evidence and entropy in bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from counterlens.core.metrics.metric import NAN, CounterfactualPair, RecordMetric

LEAST = 1e-6  # records keep six digits: no probability is told from a smaller one


class Confidence(RecordMetric):
    """Probability of the target at the counterfactual."""

    name: ClassVar[str] = "confidence"
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 1)

    def of(self, pair: CounterfactualPair) -> float:
        return number(pair, "p_target_after")


class ConfidenceChange(RecordMetric):
    """Absolute change of the target's probability, from the source to the counterfactual."""

    name: ClassVar[str] = "confidence_change"
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 1)
    source: ClassVar[str] = "MAD of ACE"

    def of(self, pair: CounterfactualPair) -> float:
        return abs(number(pair, "p_target_after") - number(pair, "p_target_before"))


class Bits(RecordMetric):
    """Evidence gained for the target: log2 p(target) at the counterfactual less at the source."""

    name: ClassVar[str] = "bits"
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (math.log2(LEAST), -math.log2(LEAST))
    unit: ClassVar[str] = "bit"

    def of(self, pair: CounterfactualPair) -> float:
        after, before = number(pair, "p_target_after"), number(pair, "p_target_before")
        return math.log2(max(after, LEAST)) - math.log2(max(before, LEAST))


class Entropy(RecordMetric):
    """Entropy of the explained classifier's answer to the counterfactual: 0 when it is sure."""

    name: ClassVar[str] = "entropy"
    bounds: ClassVar[tuple[float | None, float | None]] = (0, None)
    unit: ClassVar[str] = "bit"

    def of(self, pair: CounterfactualPair) -> float:
        after = pair.record.get("probabilities_after")
        return entropy(after) if after and not pair.failed else NAN


def entropy(probabilities: Mapping[str, float]) -> float:
    """H = -Σ p log2 p.

    >>> entropy({"a": 0.5, "b": 0.5, "c": 0.0})
    1.0
    """
    return math.fsum(-p * math.log2(p) for p in probabilities.values() if p > 0)


def number(pair: CounterfactualPair, key: str) -> float:
    """A number of the record; nan for a failed item or when it is not there."""
    value = pair.record.get(key)
    return NAN if pair.failed or value is None else float(value)
