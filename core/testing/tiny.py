"""Tiny random pipelines of every family, in the real layout: what tests of this package and of plugins load.

``tiny("sdxl", folder)`` takes well under a second and needs no network; loading it is the real path.
``pair`` and ``failed_pair`` are what tests of metrics look at.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from counterlens.core.testing.tokenizers import clip_tokenizer, t5_tokenizer

SIZE = 16  # pixels a side
WIDTH = 8  # of every text and image embedding

_BASE = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}

_ATTENDS = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}


# blocks of Kandinsky 2.2 and DeepFloyd IF: attention with added keys, sizes changed by residual blocks
_ADDED = {
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "resnet_time_scale_shift": "scale_shift",
    "encoder_hid_dim": WIDTH,
    "cross_attention_dim": WIDTH,
}

_CODEC = {
    "block_out_channels": (8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
    "sample_size": SIZE,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}

_LATENT_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def tiny(family: str, folder: str | Path, seed: int = 0, **options: Any) -> Path:
    """Save a tiny pipeline of ``family`` in ``folder`` and return it; the weights depend on ``seed`` alone.

    Options: ``scheduler`` (a diffusers scheduler instead of the family's usual one) for all; ``in_channels`` for
    stable-diffusion; ``stage`` (1 or 2) for deepfloyd-if; ``classes`` and ``null`` for ddpm; ``base`` (the
    folder of a tiny sdxl, whose other networks it shares) for sdxl-refiner. Kandinsky's prior goes beside it, into
    ``<folder>-prior``. KeyError for an unknown family.
    """
    import torch

    from counterlens.core.models.loading import quiet

    folder = Path(folder)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        pipeline = BUILDERS[family](folder, **options)
        pipeline.save_pretrained(folder, safe_serialization=True)
    if options.get("classes"):
        _name_classes(folder, options["classes"])
    return folder


def _stable_diffusion(folder: Path, scheduler: Any = None, in_channels: int = 4) -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    tokenizer = clip_tokenizer(folder / "tokenizer")
    unet = UNet2DConditionModel(**_BASE, **_ATTENDS, in_channels=in_channels, cross_attention_dim=WIDTH)
    usual = DDIMScheduler(**_LATENT_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    return StableDiffusionPipeline(
        _vae(),
        _clip_text(tokenizer),
        tokenizer,
        unet,
        scheduler or usual,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl(folder: Path, scheduler: Any = None) -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        **_BASE,
        **_ATTENDS,
        cross_attention_dim=2 * WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + WIDTH,
    )
    usual = EulerDiscreteScheduler(**_LATENT_BETAS, timestep_spacing="leading", steps_offset=1)
    first, second = (clip_tokenizer(folder / name) for name in ("tokenizer", "tokenizer_2"))
    return StableDiffusionXLPipeline(
        _vae(), _clip_text(first), _clip_text(second, pooled=True), first, second, unet, scheduler or usual
    )


def _sdxl_refiner(folder: Path, base: Path) -> Any:
    from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        **_BASE,
        **_ATTENDS,
        cross_attention_dim=WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=5 * 4 + WIDTH,
    )
    first = StableDiffusionXLPipeline.from_pretrained(base)
    shared = {name: getattr(first, name) for name in ("vae", "text_encoder_2", "tokenizer_2", "scheduler")}
    return StableDiffusionXLImg2ImgPipeline(
        **shared,
        text_encoder=None,
        tokenizer=None,
        unet=unet,
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
    )


def _kandinsky22(folder: Path, scheduler: Any = None) -> Any:
    from diffusers import DDPMScheduler, KandinskyV22Pipeline, UNet2DConditionModel, VQModel

    unet = UNet2DConditionModel(
        **_BASE, **_ADDED, out_channels=8, encoder_hid_dim_type="image_proj", addition_embed_type="image"
    )
    wide = {**_CODEC, "block_out_channels": (32, 32), "norm_num_groups": 32}  # spatial norms have 32 groups
    movq = VQModel(**wide, num_vq_embeddings=12, vq_embed_dim=4, norm_type="spatial")
    usual = DDPMScheduler(beta_start=0.00085, beta_end=0.012, clip_sample=False, variance_type="learned_range")
    _prior(folder.with_name(f"{folder.name}-prior"))
    return KandinskyV22Pipeline(unet, scheduler or usual, movq)


def _prior(folder: Path) -> None:
    """The two parts of a Kandinsky prior that are needed, in its layout."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(**_clip(), image_size=SIZE, patch_size=8)
    CLIPVisionModelWithProjection(config).save_pretrained(folder / "image_encoder")
    sizes = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
    CLIPImageProcessor(**sizes).save_pretrained(folder / "image_processor")
    index = {
        "_class_name": "KandinskyV22PriorPipeline",
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "image_processor": ["transformers", "CLIPImageProcessor"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))


def _deepfloyd_if(folder: Path, scheduler: Any = None, stage: int = 1) -> Any:
    from diffusers import DDPMScheduler, IFPipeline, IFSuperResolutionPipeline, UNet2DConditionModel
    from transformers import T5Config, T5EncoderModel

    tokenizer = t5_tokenizer(folder / "tokenizer")
    config = T5Config(vocab_size=len(tokenizer), d_model=WIDTH, d_ff=16, d_kv=4, num_layers=1, num_heads=2)
    unet = UNet2DConditionModel(
        **{**_BASE, "sample_size": SIZE},
        **{**_ADDED, "cross_attention_dim": 32},  # its group norm has 32 groups
        in_channels=3 * stage,
        out_channels=6,
        encoder_hid_dim_type="text_proj",
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        act_fn="gelu",
        class_embed_type="timestep" if stage == 2 else None,
    )
    usual = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        variance_type="learned_range",
        thresholding=True,
        dynamic_thresholding_ratio=0.95,
        sample_max_value=1.5,
    )
    parts = {"tokenizer": tokenizer, "text_encoder": T5EncoderModel(config), "unet": unet}
    parts |= {"scheduler": scheduler or usual, "safety_checker": None, "feature_extractor": None, "watermarker": None}
    if stage == 1:
        return IFPipeline(**parts, requires_safety_checker=False)
    noising = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    return IFSuperResolutionPipeline(**parts, image_noising_scheduler=noising, requires_safety_checker=False)


def _unet2d(side: int, channels: int, embeddings: int | None = None) -> Any:
    from diffusers import UNet2DModel

    return UNet2DModel(
        **{**_BASE, "sample_size": side},
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        num_class_embeds=embeddings,
    )


def _ddpm(folder: Path, scheduler: Any = None, classes: tuple[str, ...] = (), null: bool = False) -> Any:
    from diffusers import DDPMPipeline, DDPMScheduler

    return DDPMPipeline(_unet2d(SIZE, 3, len(classes) + null or None), scheduler or DDPMScheduler())


def _ldm(folder: Path, scheduler: Any = None) -> Any:
    from diffusers import DDIMScheduler, LDMPipeline, VQModel

    vqvae = VQModel(**_CODEC, num_vq_embeddings=12, vq_embed_dim=4)
    return LDMPipeline(vqvae, _unet2d(8, 4), scheduler or DDIMScheduler(**_LATENT_BETAS, clip_sample=False))


def _name_classes(folder: Path, classes: tuple[str, ...]) -> None:
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps({**index, "id2label": {str(i): name for i, name in enumerate(classes)}}))


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(**_CODEC)


def _clip() -> dict[str, int]:
    sizes = ("hidden_size", "projection_dim")
    return {**dict.fromkeys(sizes, WIDTH), "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def _clip_text(tokenizer: Any, pooled: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 1}
    config = CLIPTextConfig(**_clip(), **ends, vocab_size=len(tokenizer), max_position_embeddings=77)
    return (CLIPTextModelWithProjection if pooled else CLIPTextModel)(config)


BUILDERS: dict[str, Callable[..., Any]] = {
    "stable-diffusion": _stable_diffusion,
    "sdxl": _sdxl,
    "sdxl-refiner": _sdxl_refiner,
    "kandinsky22": _kandinsky22,
    "deepfloyd-if": _deepfloyd_if,
    "ddpm": _ddpm,
    "ldm": _ldm,
}
