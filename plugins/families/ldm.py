from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from counterlens.core.models.family import Family

if TYPE_CHECKING:
    from counterlens.core.models.pipeline import Pipeline
    from counterlens.core.models.pool import Key


class Ldm(Family):
    """Unconditional latent diffusion: the latents of a VQ autoencoder."""

    name: ClassVar[str] = "ldm"
    pipelines: ClassVar[tuple[str, ...]] = ("LDMPipeline",)
    parts: ClassVar[tuple[str, ...]] = ("unet", "scheduler", "vqvae")
    gives: ClassVar[frozenset[str]] = frozenset({"latents", "unconditional", "mid-block", "attention"})

    @classmethod
    def load(cls, key: Key) -> Pipeline:
        from counterlens.core.models.loading import assemble
        from counterlens.plugins.families.pipelines.ddpm import LdmLoaded

        return assemble(LdmLoaded, key, cls.parts)
