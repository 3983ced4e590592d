from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from counterlens.core.problem.masker import Masker

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.problem.scene import Scene


class Given(Masker):
    """The map of --map, to be refined or joined with others."""

    name: ClassVar[str] = "given"
    needs: ClassVar[frozenset[str]] = frozenset({"map"})

    def mask(self, scene: Scene) -> Tensor:
        if scene.change_map is None:
            raise ValueError("there is no map: the plan should have said so")
        return scene.change_map
