"""The sizes of the networks, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from counterlens.plugins.embedded.captions import MAX_LENGTH, vocabulary

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel, UNet2DModel, VQModel
    from transformers import CLIPModel

LATENT_CHANNELS = 8
LATENT_SIZE = 8
EMBEDDING = 64  # width of a CLIP image embedding
TEXT = 96  # width of a text token


def scheduler(steps_offset: int = 0) -> DDIMScheduler:
    """Cosine noise levels, deterministic DDIM, velocity prediction.

    Epsilon prediction was tried first: after as many steps its backgrounds drift to glaring colours, because at high
    noise a small error in epsilon is a large one in the image.
    """
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        1000,
        beta_schedule="squaredcos_cap_v2",
        clip_sample=False,
        steps_offset=steps_offset,
        prediction_type="v_prediction",
    )


def pixel_unet(domain: str) -> UNet2DModel:
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=32,
        block_out_channels=(32, 64, 64, 64) if domain == "shapes" else (32, 48, 48, 48),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=16,
        down_block_types=("DownBlock2D", "DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"),
    )


def latent_unet(kind: str, domain: str) -> UNet2DConditionModel:
    """``kind`` is "stable-diffusion" (text tokens) or "kandinsky22" (one image embedding; noise and variance out)."""
    from diffusers import UNet2DConditionModel

    text = kind == "stable-diffusion"
    extra = (
        {}
        if text
        else {
            "encoder_hid_dim": EMBEDDING,
            "encoder_hid_dim_type": "image_proj",
            "addition_embed_type": "image",
        }
    )
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS if text else 2 * LATENT_CHANNELS,
        block_out_channels=(64, 64) if domain == "shapes" else (48, 48),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=4,
        cross_attention_dim=TEXT if text else 48,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        **extra,
    )


_VAE_CHANNELS = {"shapes": (24, 48, 48), "digits": (16, 32, 32)}
_VAE = {
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "latent_channels": LATENT_CHANNELS,
    "sample_size": 32,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
}


def vae(domain: str, scaling_factor: float = 1.0) -> AutoencoderKL:
    """32x32 pixels to 8x8x8 and back."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        **_VAE,
        block_out_channels=_VAE_CHANNELS[domain],
        scaling_factor=scaling_factor,
        force_upcast=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def movq(domain: str) -> VQModel:
    from diffusers import VQModel

    return VQModel(
        **_VAE,
        block_out_channels=_VAE_CHANNELS[domain],
        vq_embed_dim=LATENT_CHANNELS,
        num_vq_embeddings=16,
        scaling_factor=1.0,
    )


def clip() -> CLIPModel:
    from transformers import CLIPConfig, CLIPModel

    vocab, _ = vocabulary()
    shared = {"hidden_size": TEXT, "intermediate_size": 2 * TEXT, "num_attention_heads": 4, "projection_dim": EMBEDDING}
    ends = {"bos_token_id": len(vocab) - 2, "eos_token_id": len(vocab) - 1, "pad_token_id": len(vocab) - 1}
    text = {**shared, **ends, "vocab_size": len(vocab), "num_hidden_layers": 2, "max_position_embeddings": MAX_LENGTH}
    vision = {**shared, "num_hidden_layers": 4, "image_size": 32, "patch_size": 4}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=EMBEDDING))
