from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PrivateAttr

from counterlens.core.errors import RunFailed
from counterlens.core.problem.masker import Sources
from counterlens.core.problem.method_pieces import Editor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.problem.problem import Problem


class Region(Editor):
    """Only says where the picture should change, for regularizers of the background or foreground; holds nothing.

    (``change-map`` holds what its map keeps.) A map given with --map goes before ``source``.
    """

    name: ClassVar[str] = "region"
    gives: ClassVar[frozenset[str]] = frozenset({"map"})
    mixes: ClassVar[bool] = True
    source: str = Field("attribution power=0.5 grow=2", description="maskers joined by or, and, except")
    _sources: Sources | None = PrivateAttr(None)

    def model_post_init(self, context: Any) -> None:
        if context:
            self._sources = Sources.read(self.source, context["make"])

    def wanted(self) -> frozenset[str]:
        return self._sources.wanted() if self._sources else frozenset()

    def check(self, asked: Sequence[SourceImage]) -> None:
        if self._sources:
            self._sources.check(asked)

    def on_problem(self, problem: Problem) -> Problem:
        scene = problem.scene
        change = scene.change_map
        if change is None:
            if self._sources is None:
                raise ValueError(f"region source={self.source!r}: make it by name, with registry.make")
            change = self._sources.map(problem)
        shares = change.mean((1, 2, 3)).tolist()
        for item, share in zip(scene.items, shares, strict=True):
            if share in (0.0, 1.0):
                what = "empty" if share == 0 else "the whole picture"
                raise RunFailed(f"{item.name}: the region is {what}: give --map, or another source")
        return problem.with_(scene=replace(scene, change_map=change))
