"""The networks of a pipeline trained from scratch, by their sizes: pixel U-Net, autoencoder, latent U-Nets, CLIP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel, UNet2DModel, VQModel
    from transformers import CLIPModel

TEXT, IMAGE = "stable-diffusion", "kandinsky22"  # kinds of latent U-Nets: by text tokens, by one image embedding


@dataclass(frozen=True)
class Shape:
    """Sizes. A tuple of channels has one number a level; the side halves from each level to the next."""

    pixels: int  # side of the images
    pixel: tuple[int, ...]  # channels of the pixel U-Net, with attention on its last level
    codec: tuple[int, ...]  # channels of the autoencoder
    latent: tuple[int, ...]  # channels of the latent U-Nets
    latent_channels: int = 8
    attention_from: int = 0  # first level of a latent U-Net with attention
    embedding: int = 64  # width of a CLIP image embedding
    width: int = 96  # of a text token, and within CLIP
    patch: int = 4  # side of a patch that CLIP's image tower sees
    image_width: int = 0  # keys from the image embedding; the first level's channels if 0
    layers: int = 1  # residual blocks of a level
    groups: int = 8
    vision_layers: int = 4
    max_length: int = 20  # tokens of a text

    @property
    def latent_size(self) -> int:
        return self.pixels // 2 ** (len(self.codec) - 1)


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


def pixel_unet(shape: Shape) -> UNet2DModel:
    from diffusers import UNet2DModel

    rest = len(shape.pixel) - 1
    return UNet2DModel(
        sample_size=shape.pixels,
        block_out_channels=shape.pixel,
        layers_per_block=shape.layers,
        norm_num_groups=shape.groups,
        attention_head_dim=16,
        down_block_types=(*("DownBlock2D",) * rest, "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", *("UpBlock2D",) * rest),
    )


def latent_unet(kind: str, shape: Shape) -> UNet2DConditionModel:
    """``kind`` is TEXT (text tokens) or IMAGE (one image embedding; noise and variance out)."""
    from diffusers import UNet2DConditionModel

    text = kind == TEXT
    by_image = {
        "encoder_hid_dim": shape.embedding,
        "encoder_hid_dim_type": "image_proj",
        "addition_embed_type": "image",
    }
    attends = [level >= shape.attention_from for level in range(len(shape.latent))]
    return UNet2DConditionModel(
        sample_size=shape.latent_size,
        in_channels=shape.latent_channels,
        out_channels=shape.latent_channels if text else 2 * shape.latent_channels,
        block_out_channels=shape.latent,
        layers_per_block=shape.layers,
        norm_num_groups=shape.groups,
        attention_head_dim=4,
        cross_attention_dim=shape.width if text else shape.image_width or shape.latent[0],
        down_block_types=tuple("CrossAttnDownBlock2D" if yes else "DownBlock2D" for yes in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if yes else "UpBlock2D" for yes in reversed(attends)),
        **({} if text else by_image),
    )


def _codec(shape: Shape) -> dict[str, Any]:
    levels = len(shape.codec)
    return {
        "block_out_channels": shape.codec,
        "layers_per_block": 1,
        "norm_num_groups": shape.groups,
        "latent_channels": shape.latent_channels,
        "sample_size": shape.pixels,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }


def vae(shape: Shape, scaling_factor: float = 1.0) -> AutoencoderKL:
    """Images to ``latent_size`` and back."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        **_codec(shape),
        scaling_factor=scaling_factor,
        force_upcast=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def movq(shape: Shape) -> VQModel:
    from diffusers import VQModel

    return VQModel(**_codec(shape), vq_embed_dim=shape.latent_channels, num_vq_embeddings=16, scaling_factor=1.0)


def clip(shape: Shape, vocabulary: int) -> CLIPModel:
    """Text and image tower; the last two tokens of the vocabulary begin and end a text."""
    from transformers import CLIPConfig, CLIPModel

    width = shape.width
    shared = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_attention_heads": 4,
        "projection_dim": shape.embedding,
    }
    ends = {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1}
    lengths = {"num_hidden_layers": 2, "max_position_embeddings": shape.max_length}
    text = {**shared, **ends, **lengths, "vocab_size": vocabulary}
    vision = {
        **shared,
        "num_hidden_layers": shape.vision_layers,
        "image_size": shape.pixels,
        "patch_size": shape.patch,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=shape.embedding))
