from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from counterlens.core.models.family import Family

if TYPE_CHECKING:
    from counterlens.core.models.pipeline import Pipeline
    from counterlens.core.models.pool import Key
    from counterlens.plugins.families.pipelines.sdxl import SdxlLoaded


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
        {"latents", "text", "null-branch", "mid-block", "attention", "cross-attention", "refiner"}
    )

    @classmethod
    def load(cls, key: Key) -> Pipeline:
        from counterlens.core.models.loading import assemble
        from counterlens.plugins.families.pipelines.sdxl import SdxlLoaded

        loaded = assemble(SdxlLoaded, key, cls.parts)
        # transformers hangs its hooks for hidden states at the first call that asks for them, for good: here, before
        # the pool looks at what a borrower leaves behind
        loaded.encode_texts([""])
        if dict(key.options).get("refiner"):
            _refine(loaded, key)
        return loaded


def _refine(loaded: SdxlLoaded, key: Key) -> None:
    """Load the second expert's U-Net beside the first's; it must read what the first's second text encoder says."""
    from counterlens.core.errors import UsageError
    from counterlens.core.models import hub
    from counterlens.core.models.device import dtype_of
    from counterlens.core.models.loading import load_part
    from counterlens.plugins.families.pipelines.refiner import refiner_of

    options = dict(key.options)
    folder = hub.resolve(str(options["refiner"]), "", bool(options.get("offline")), ("unet",), key.variant)
    index = hub.read_index(str(folder))
    hub.check_part(folder, "unet", index, key.variant)
    unet = load_part(folder, "unet", index, dtype_of(key.dtype), key.variant)
    encoder: Any = loaded.modules["text_encoder_2"].config
    if (takes := unet.config.cross_attention_dim) != encoder.hidden_size:
        raise UsageError(
            f"--refiner {folder}: its U-Net reads words of {takes} numbers, text_encoder_2 of {key.model} gives "
            f"{encoder.hidden_size}: give SDXL's refiner of the same text encoder"
        )
    trained = loaded.scheduler.config.num_train_timesteps
    share = float(options.get("hand_over", 0.8))
    loaded.refiner = refiner_of(unet, index, trained, share, encoder.projection_dim)
    loaded.modules = {**loaded.modules, "refiner": unet if loaded.offload else unet.to(key.device)}
