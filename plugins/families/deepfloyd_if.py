from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from counterlens.core.models.family import Family

if TYPE_CHECKING:
    from counterlens.core.models.pipeline import Pipeline
    from counterlens.core.models.pool import Key

_ENDS = ("Pipeline", "Img2ImgPipeline", "InpaintingPipeline")
_FIRST = tuple(f"IF{end}" for end in _ENDS)
_SECOND = ("IFSuperResolutionPipeline", "IFImg2ImgSuperResolutionPipeline", "IFInpaintingSuperResolutionPipeline")


class DeepFloydIf(Family):
    """DeepFloyd IF, stage I and II: pixels, T5 text, learned variance."""

    name: ClassVar[str] = "deepfloyd-if"
    pipelines: ClassVar[tuple[str, ...]] = (*_FIRST, *_SECOND)
    parts: ClassVar[tuple[str, ...]] = ("unet", "scheduler", "text_encoder", "tokenizer")
    gives: ClassVar[frozenset[str]] = frozenset(
        {"pixels", "text", "null-branch", "mid-block", "attention", "cross-attention"}
    )

    @classmethod
    def load(cls, key: Key) -> Pipeline:
        from counterlens.core.models import hub
        from counterlens.core.models.loading import assemble
        from counterlens.plugins.families.pipelines.deepfloyd_if import DeepFloydIfLoaded, DeepFloydIfUpLoaded

        index = hub.read_index(key.model, key.revision, bool(dict(key.options).get("offline")))
        if index["_class_name"] in _SECOND:
            return assemble(DeepFloydIfUpLoaded, key, (*cls.parts, "image_noising_scheduler"))
        return assemble(DeepFloydIfLoaded, key, cls.parts)
