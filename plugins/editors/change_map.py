from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, model_validator

from counterlens.core.errors import UsageError
from counterlens.core.problem.masker import Sources
from counterlens.core.problem.method_pieces import Editor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.problem.problem import Problem
    from counterlens.core.problem.scene import Scene


class ChangeMap(Editor):
    """Every pixel has its own strength of change (Levin & Fried 2023); pixels with 0 are exactly the source's.

    It acts last in every step, whatever its place among the editors, and on the pictures: they are put over their
    source, and that is what the classifier sees. Gradients of guidance reach only what is free.
    """

    name: ClassVar[str] = "change-map"
    gives: ClassVar[frozenset[str]] = frozenset({"map"})
    mixes: ClassVar[bool] = True  # it takes no part in the loop itself: the lock does
    source: str = Field("", description="where the map is from: maskers joined by or, and, except; --map if empty")
    otherwise: str = Field("", description="maskers to take where neither source nor --map is given")
    strength: float = Field(1.0, description="factor of the whole map: the largest change", ge=0, le=1)
    clock: Literal["noise", "timestep", "step"] = Field(
        "noise", description="when greys are released: by noise level (means the same under every schedule) …"
    )
    form: Literal["estimate", "state"] = Field(
        "estimate", description="what is held: the clean estimate (exact), or the state before a step (as published)"
    )
    reference: Literal["inversion", "noise", "image"] = Field(
        "inversion",
        description="how kept places get there: states the inverter recorded, the source under one noise, "
        "or the clean source under whatever noise is left",
    )
    graded: bool = Field(True, description="release within a step too, so that few steps obey many grey levels")
    reduce: Literal["area", "max", "min", "smooth"] = Field(
        "area", description="how the map gets to the latents' size: averages, any change wins, any keeping wins, …"
    )
    mixed: bool = Field(
        False, description="take every edit by the map, beside the network's answer without it (asks twice a step)"
    )
    restore: bool = Field(True, description="what is kept fully is the source's after the last step, bit by bit")
    composite: bool = Field(True, description="put the decoded picture over the source where nothing may change")
    feather: float = Field(0.0, description="pixels outside the map over which it fades into the source", ge=0)
    skip: bool = Field(True, description="leave out steps in which everything is kept")
    crop: bool = Field(False, description="show the network only the box that may change, and some context")
    context: float = Field(0.125, description="crop: context on each side, shares of the picture's side", ge=0, le=1)
    _sources: Sources | None = PrivateAttr(None)
    _otherwise: Sources | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _consistent(self) -> ChangeMap:
        if self.form == "state" and self.reference == "image":
            raise ValueError("form=state needs states to put back: use reference=inversion or reference=noise")
        return self

    def model_post_init(self, context: Any) -> None:
        if context:
            self._sources = Sources.read(self.source, context["make"]) if self.source else None
            self._otherwise = Sources.read(self.otherwise, context["make"]) if self.otherwise else None

    def wanted(self) -> frozenset[str]:
        sources = self._sources or self._otherwise
        return sources.wanted() if sources else frozenset({"map"})

    def check(self, asked: Sequence[SourceImage]) -> None:
        if sources := self._sources or self._otherwise:
            sources.check(asked)

    def on_problem(self, problem: Problem) -> Problem:
        return problem.with_(scene=self.lock(problem.scene, self._change(problem)))

    def _change(self, problem: Problem) -> Tensor:
        given = problem.scene.change_map
        if self._sources is not None:
            if given is not None and "given" not in self.source.split():
                raise UsageError(f"source={self.source!r} leaves --map out: write source='{self.source} and given'")
            return self._sources.map(problem)
        if self.source or (self.otherwise and not self._otherwise):
            raise ValueError(f"change-map source={self.source!r}: make it by name, with registry.make")
        if given is not None:
            return given
        if self._otherwise is None:
            raise ValueError("change-map without a source needs the scene's own map: the plan should have said so")
        return self._otherwise.map(problem)

    def lock(self, scene: Scene, change: Tensor) -> Scene:
        """The scene with this change map [B,1,H,W] in [0,1], and the lock that holds what it keeps."""
        from counterlens.core.problem.scene import locked

        options = ("clock", "form", "reference", "graded", "mixed", "restore", "skip", "reduce", "feather", "composite")
        margin = self.context if self.crop else None
        scene = locked(scene, change * self.strength, margin=margin, **{name: getattr(self, name) for name in options})
        shares = (change > 0).float().mean((1, 2, 3))
        items = tuple(
            replace(item, notes=(*item.notes, *notes_of(float(share))))
            for item, share in zip(scene.items, shares, strict=True)
        )
        return replace(scene, items=items)


def notes_of(share: float) -> tuple[str, ...]:
    """What a user should hear about a map that may change this share of the picture."""
    if share == 0:
        return ("the change map keeps every pixel: nothing was run",)
    if share < 0.02 or share > 0.98:
        return (f"the change map may change {100 * share:.3g} % of the picture: is its polarity right?",)
    return ()
