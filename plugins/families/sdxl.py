from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from counterlens.core.family import Family

if TYPE_CHECKING:
    from counterlens.core.pipeline import Pipeline
    from counterlens.core.pool import Key


class Sdxl(Family):
    """Stable Diffusion XL: VAE latents, two text encoders."""

    name: ClassVar[str] = "sdxl"
    pipelines: ClassVar[tuple[str, ...]] = (
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
    )
    parts: ClassVar[tuple[str, ...]] = (
        "unet",
        "scheduler",
        "vae",
        "text_encoder",
        "tokenizer",
        "text_encoder_2",
        "tokenizer_2",
    )
    gives: ClassVar[frozenset[str]] = frozenset(
        {"latents", "text", "null-branch", "mid-block", "attention", "cross-attention"}
    )

    @classmethod
    def load(cls, key: Key) -> Pipeline:
        from counterlens.core.parts import assemble
        from counterlens.plugins.families.pipelines.sdxl import SdxlLoaded

        loaded = assemble(SdxlLoaded, key, cls.parts)
        # transformers hangs its hooks for hidden states at the first call that asks for them, for good: here, before
        # the pool looks at what a borrower leaves behind
        loaded.encode_texts([""])
        return loaded
