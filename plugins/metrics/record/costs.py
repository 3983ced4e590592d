"""What a counterfactual cost, read off its record. A failed item that did not count its cost is nan, not free."""

from __future__ import annotations

from typing import ClassVar

from counterlens.core.metrics.metric import NAN, CounterfactualPair, RecordMetric


class Cost(RecordMetric):
    """A counted cost: lower is better."""

    key: ClassVar[str] = ""
    scale: ClassVar[float] = 1.0
    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[tuple[float | None, float | None]] = (0, None)

    def of(self, pair: CounterfactualPair) -> float:
        value = pair.record.get(self.key)
        return NAN if value is None or (pair.failed and not value) else float(value) * self.scale


class Seconds(Cost):
    """Seconds of one counterfactual: the batch's time over its size, as recorded."""

    name: ClassVar[str] = "seconds"
    key: ClassVar[str] = "seconds"
    unit: ClassVar[str] = "s"


class UnetEvaluations(Cost):
    """Network evaluations of one counterfactual: every branch and every trajectory that was tried."""

    name: ClassVar[str] = "unet_evaluations"
    key: ClassVar[str] = "unet_evaluations"


class GradientEvaluations(Cost):
    """Gradient evaluations of one counterfactual."""

    name: ClassVar[str] = "gradient_evaluations"
    key: ClassVar[str] = "gradient_evaluations"


class PeakMemory(Cost):
    """Greatest memory in use while the counterfactual was made."""

    name: ClassVar[str] = "peak_memory"
    key: ClassVar[str] = "peak_bytes"
    scale: ClassVar[float] = 1 / 2**20
    unit: ClassVar[str] = "MiB"
