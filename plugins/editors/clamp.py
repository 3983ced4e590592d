from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from counterlens.core.problem.method_pieces import Editor

if TYPE_CHECKING:
    from counterlens.core.diffusion.levels import Estimate
    from counterlens.core.diffusion.step import Step


class Clamp(Editor):
    """Keep the clean estimate within a range (for pixel models under strong guidance)."""

    name: ClassVar[str] = "clamp"
    limit: float = Field(1.0, description="largest absolute value of the clean estimate", gt=0)

    def on_estimate(self, est: Estimate, step: Step) -> Estimate:
        return replace(est, x0=est.x0.clamp(-self.limit, self.limit))
