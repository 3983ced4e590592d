"""What a call of ``train backbone`` trains, and how: the networks' sizes, the parts in order, the recipe of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from counterlens.core.errors import UsageError
from counterlens.core.training.networks import Shape
from counterlens.plugins.trainers.backbones.sizes import NEEDS, PARTS, RECIPES, SHAPES, PartRecipe


@dataclass(frozen=True, kw_only=True)
class BackbonePlan:
    """The folder, the device, and the options of ``backbone`` of the same names; UsageError for impossible ones."""

    out: Path
    device: str
    size: str
    pixels: int
    pipelines: tuple[str, ...]
    effort: float
    batch: float
    flip: bool
    held: float
    looks: int

    def __post_init__(self) -> None:
        if self.shape.pixels % 32:
            raise UsageError(f"--pixels {self.pixels} is not a multiple of 32")

    @property
    def shape(self) -> Shape:
        shape = SHAPES[self.size]
        return replace(shape, pixels=self.pixels or shape.pixels)

    @property
    def parts(self) -> list[str]:
        """What is trained, in this order: a pipeline stands on those before it."""
        needed = {part for kind in self.pipelines for part in (*NEEDS[kind], kind)}
        return [part for part in (*PARTS[:2], *self.pipelines) if part in needed]

    def recipe(self, part: str) -> PartRecipe:
        usual = RECIPES[self.size][part]
        steps, batch = max(1, round(usual.steps * self.effort)), max(2, round(usual.batch * self.batch))
        return replace(usual, steps=steps, batch=batch, half=usual.half or self.device.startswith("cuda"))

    def options(self) -> dict[str, Any]:
        """What the weights of a part depend on."""
        without = ("out", "device", "pipelines", "looks")
        return {name: value for name, value in asdict(self).items() if name not in without}
