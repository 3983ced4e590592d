"""What a walk costs, counted a row: network evaluations, gradients, what was spared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class CostMeter:
    """Network evaluations and classifier gradients, counted for each image of a scene.

    ``backward``: evaluations that were differentiated, ``recomputed``: those done once more for it; ``skipped``: steps
    that were left out; ``reused``: those of ``forward`` that were spared by an inversion found in
    the cache; ``spared``: its seconds.
    """

    forward: Counter[int] = field(default_factory=Counter)
    gradient: Counter[int] = field(default_factory=Counter)
    backward: Counter[int] = field(default_factory=Counter)
    recomputed: Counter[int] = field(default_factory=Counter)
    reused: Counter[int] = field(default_factory=Counter)
    skipped: Counter[int] = field(default_factory=Counter)
    spared: dict[int, float] = field(default_factory=dict)
    psnr: dict[int, float] = field(default_factory=dict)  # of an image's reconstruction, where its inverter measured it
    calls: int = 0

    def asked(self, rows: Sequence[int], branches: int) -> None:
        self.calls += 1
        for row in rows:
            self.forward[row] += branches

    def differentiated(self, rows: Sequence[int], evaluations: int, again: bool) -> None:
        """So many evaluations of each row were differentiated; ``again``: after they had been computed once more."""
        for row in rows:
            self.backward[row] += evaluations
            self.recomputed[row] += evaluations if again else 0

    def left_out(self, rows: Sequence[int], steps: int) -> None:
        for row in rows:
            self.skipped[row] += steps

    def of(self, row: int) -> dict[str, Any]:
        """What an image cost, inversions that were found counted as if they had been made; and what they spared."""
        further: dict[str, Any] = {}
        if row in self.backward:
            further = {"unet_backward": self.backward[row], "unet_recomputed": self.recomputed[row]}
        if row in self.psnr:
            further["inversion_psnr"] = round(self.psnr[row], 3)
        return {
            "unet_evaluations": self.forward[row],
            "gradient_evaluations": self.gradient[row],
            "unet_evaluations_reused": self.reused[row],
            "seconds_reused": round(self.spared.get(row, 0.0), 4),
            **further,
        }
