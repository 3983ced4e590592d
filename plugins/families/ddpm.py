from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from counterlens.core.models.family import Family

if TYPE_CHECKING:
    from counterlens.core.models.pipeline import Pipeline
    from counterlens.core.models.pool import Key


class Ddpm(Family):
    """Pixel DDPM or DDIM, free or under class labels (named by ``id2label`` in model_index.json)."""

    name: ClassVar[str] = "ddpm"
    pipelines: ClassVar[tuple[str, ...]] = ("DDPMPipeline", "DDIMPipeline")
    parts: ClassVar[tuple[str, ...]] = ("unet", "scheduler")
    gives: ClassVar[frozenset[str]] = frozenset({"pixels", "unconditional", "mid-block", "attention"})

    @classmethod
    def capabilities(cls, model_index: Mapping[str, Any]) -> frozenset[str]:
        return cls.gives - {"unconditional"} | {"classes"} if model_index.get("id2label") else cls.gives

    @classmethod
    def load(cls, key: Key) -> Pipeline:
        from counterlens.core.models.loading import assemble
        from counterlens.plugins.families.pipelines.ddpm import DdpmLoaded

        return assemble(DdpmLoaded, key, cls.parts)
