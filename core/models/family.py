"""A model family: recognises a diffusers pipeline folder and loads what the engine needs of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from counterlens.core.pieces.base import Piece

if TYPE_CHECKING:
    from counterlens.core.models.pipeline import Pipeline
    from counterlens.core.models.pool import Key


class Family(Piece):
    """Adapter from one diffusers pipeline type to the engine.

    ``pipelines``: names of the diffusers classes in ``model_index.json`` that belong to it;
    ``parts``: the folders that are loaded, and no others; ``gives``: what pieces can rely on.
    """

    kind: ClassVar[str] = "family"
    pipelines: ClassVar[tuple[str, ...]] = ()
    parts: ClassVar[tuple[str, ...]] = ("unet", "scheduler")

    @classmethod
    def recognises(cls, model_index: Mapping[str, Any]) -> bool:
        """Whether a ``model_index.json`` is one of this family's."""
        return model_index.get("_class_name") in cls.pipelines

    @classmethod
    def capabilities(cls, model_index: Mapping[str, Any]) -> frozenset[str]:
        """What a pipeline with this index gives (a class-conditional one gives more than a free one)."""
        return cls.gives

    @classmethod
    def load(cls, key: Key) -> Pipeline:
        """The pipeline of ``key.model`` (a folder or a hub id), only the parts that are needed."""
        raise NotImplementedError
