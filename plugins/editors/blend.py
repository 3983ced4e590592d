from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PrivateAttr

from counterlens.core.images.map_ops import reduced
from counterlens.core.problem.masker import Sources
from counterlens.core.problem.method_pieces import Editor
from counterlens.plugins.editors.change_map import notes_of
from counterlens.plugins.editors.source_trace import Trace, traces_of

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.diffusion.step import Step
    from counterlens.core.problem.problem import Problem
    from counterlens.core.problem.scene import Scene


class Blend(Editor):
    """Copy the source's own states into the trajectory where the picture is to stay, for the first share of the steps
    (DiG-IN, Augustin et al. 2024): coarse layout is kept there, detail may follow the edit.

    ``x <- x + m·M·(x_source - x)`` before every step; unlike change-map it locks nothing at the end.
    """

    name: ClassVar[str] = "blend"
    keep: Literal["background", "foreground"] = Field(
        "background", description="background: where the map is black; foreground: where it is white"
    )
    until: float = Field(0.3, description="share of the steps in which it is copied", gt=0, le=1)
    weight: float = Field(1.0, description="how much of it: 1 copies, less mixes", gt=0, le=1)
    otherwise: str = Field("", description="maskers to take where no --map (or change-map) is given")
    _otherwise: Sources | None = PrivateAttr(None)

    def model_post_init(self, context: Any) -> None:
        if context:
            self._otherwise = Sources.read(self.otherwise, context["make"]) if self.otherwise else None

    def wanted(self) -> frozenset[str]:
        return self._otherwise.wanted() if self._otherwise else frozenset({"map"})

    def check(self, asked: Sequence[SourceImage]) -> None:
        if self._otherwise:
            self._otherwise.check(asked)

    def on_problem(self, problem: Problem) -> Problem:
        """The scene with a map, if it has none; what a map that is empty or full means is noted."""
        scene = problem.scene
        if scene.change_map is not None:
            return problem
        if self._otherwise is None:
            raise ValueError("blend needs a map: the plan should have said so")
        change = self._otherwise.map(problem)
        shares = (change > 0).float().mean((1, 2, 3)).tolist()
        items = tuple(
            replace(item, notes=(*item.notes, *notes_of(share)))
            for item, share in zip(scene.items, shares, strict=True)
        )
        return problem.with_(scene=replace(scene, change_map=change, items=items))

    def bind(self, scene: Scene) -> Blended:
        assert scene.change_map is not None
        change = reduced(scene.change_map, (scene.x0.shape[-2], scene.x0.shape[-1]))
        return Blended(self, self.weight * (1 - change if self.keep == "background" else change))


@dataclass(frozen=True, eq=False)
class Blended:
    """What is copied in a batch: ``mask`` [B,1,h,w], and the source's own states."""

    piece: Blend
    mask: Tensor
    traces: Sequence[Trace] = ()

    def on_start(self, problem: Problem, inversion: Inversion) -> Blended:
        """With the source's states: the inverter's own where it knows them, else of its first walk."""
        if inversion.path is not None:
            states = dict(enumerate(inversion.path))
            rows = [Trace({i: x[row] for i, x in states.items()}) for row in range(len(self.mask))]
            return replace(self, traces=rows)
        return replace(self, traces=traces_of(problem, inversion, self.piece, lambda step: (), self.piece.until))

    def on_latent(self, x: Tensor, step: Step) -> Tensor:
        import torch

        if step.progress >= self.piece.until:
            return x
        source = torch.stack([trace.states[step.i] for trace in self.traces]).to(x)
        return x + self.mask.to(x) * (source - x)
