"""One step of the walk: where it is, what is asked, and how branches become one prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from counterlens.core.diffusion.levels import noisier

if TYPE_CHECKING:
    from counterlens.core.diffusion.levels import Estimate, Level


Combine = Callable[[Mapping[str, Tensor], "Step"], Tensor]


@dataclass(frozen=True)
class Step:
    """One step of the loop, as its hooks see it. ``rows``: the image of the scene behind each row of ``x``;
    ``branch`` and ``site``: where ``on_activation`` and ``on_attention`` are."""

    i: int
    n: int
    now: Level
    to: Level
    x: Tensor
    cond: Condition
    rows: tuple[int, ...] = ()
    extra: Extra = field(default_factory=dict)
    branch: str = ""
    site: str = ""
    ask: Callable[..., Estimate] = field(default=None, repr=False)  # type: ignore[assignment]

    @property
    def level(self) -> Level:
        """The level the network is asked about: always the noisier end, so that inversion mirrors sampling."""
        return noisier(self.now, self.to)

    @property
    def backwards(self) -> bool:
        """Whether the step goes towards noise; rows at levels of their own always go towards the clean image."""
        return not isinstance(self.now.s, Tensor) and float(self.to.s) > float(self.now.s)

    @property
    def progress(self) -> float:
        """0 at the first step, towards 1 at the last."""
        return self.i / self.n


def only(branches: Mapping[str, Tensor], step: Step) -> Tensor:
    """The combiner of an unconditional loop: there is one branch, and it is the answer."""
    (out,) = branches.values()
    return out


Condition = Mapping[str, "Tensor"]  # branch name -> [B,T,D] (or [B,D]); every branch is one network answer
Extra = Mapping[str, Mapping[str, "Tensor"]]  # branch name -> further network inputs, such as SDXL's pooled text
