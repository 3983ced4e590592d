from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from counterlens.core.problem.method_pieces import Combiner

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.diffusion.step import Step


class Cfg(Combiner):
    """Classifier-free guidance: ``null + scale·(conditional - null)`` (Ho & Salimans 2022, eq. 6)."""

    name: ClassVar[str] = "cfg"
    scale: float = Field(1.0, description="1 asks only the conditional branch, 0 only the empty one", ge=0)

    def wanted(self) -> frozenset[str]:
        return frozenset() if self.scale == 1 else frozenset({"null-branch"})

    def branches(self, available: Sequence[str]) -> tuple[str, ...]:
        if self.scale == 1:
            return (available[-1],)
        return ("null",) if self.scale == 0 else ("null", available[-1])

    def __call__(self, branches: Mapping[str, Tensor], step: Step) -> Tensor:
        *rest, conditional = branches.values()
        return rest[0] + self.scale * (conditional - rest[0]) if rest else conditional
