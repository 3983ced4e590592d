from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from counterlens.core.models.family import Family

if TYPE_CHECKING:
    from counterlens.core.models.pipeline import Pipeline
    from counterlens.core.models.pool import Key


class StableDiffusion(Family):
    """Stable Diffusion 1.x and 2.x (epsilon and v): VAE latents, CLIP text."""

    name: ClassVar[str] = "stable-diffusion"
    pipelines: ClassVar[tuple[str, ...]] = (
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionInpaintPipelineLegacy",
    )
    parts: ClassVar[tuple[str, ...]] = ("unet", "scheduler", "vae", "text_encoder", "tokenizer")
    gives: ClassVar[frozenset[str]] = frozenset(
        {"latents", "text", "words", "null-branch", "mid-block", "attention", "cross-attention"}
    )

    @classmethod
    def load(cls, key: Key) -> Pipeline:
        from counterlens.core.models.loading import assemble
        from counterlens.plugins.families.pipelines.stable_diffusion import StableDiffusionLoaded

        return assemble(StableDiffusionLoaded, key, cls.parts)
