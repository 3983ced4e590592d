"""Trained parts written in diffusers' own layout, in half precision, and read back for the parts that build on them."""

from __future__ import annotations

import errno
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from counterlens.core import files
from counterlens.plugins.embedded import architectures, captions, data

PREPROCESS = {
    "image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": {"shortest_edge": 32}, "resample": 3,
    "do_center_crop": True, "crop_size": {"height": 32, "width": 32}, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_convert_rgb": True,
}  # fmt: skip


@lru_cache(maxsize=1)
def tokenizer_folder() -> Path:
    """The tokenizer's files in a temporary folder, for training before anything is exported."""
    folder = Path(tempfile.mkdtemp(prefix="counterlens-tokenizer-"))
    captions.write_tokenizer(folder)
    return folder


def write_model(folder: Path, model: nn.Module) -> None:
    """``save_pretrained`` in half precision; the config says fp32, which is what loaders then make of it."""
    with whole(folder) as partial:
        model.half().save_pretrained(partial, safe_serialization=True)  # type: ignore[operator]
        config = partial / "config.json"
        content = json.loads(config.read_text())
        for key in ("dtype", "torch_dtype"):
            if key in content:
                content[key] = "float32"
        content.pop("_name_or_path", None)
        config.write_text(json.dumps(content, indent=1) + "\n")


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes the place of ``folder`` when all is written, or goes; errors in one line."""
    partial = folder.with_name(folder.name + ".partial")
    try:
        with files.explained(folder):
            try:
                partial.mkdir(parents=True, exist_ok=True)
                yield partial
            except SafetensorError as error:  # carries the system's number in its words only
                number = re.search(r"os error (\d+)", str(error))
                raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_index(folder: Path, pipeline: str, parts: dict[str, tuple[str | None, str | None]], **extra: object) -> None:
    from diffusers import __version__

    index = {
        "_class_name": pipeline,
        "_diffusers_version": __version__,
        **extra,
        **{k: list(v) for k, v in parts.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model_index.json").write_text(json.dumps(index, indent=1) + "\n")


def write_ddpm(out: Path, domain: str, unet: nn.Module) -> None:
    folder = out / "ddpm"
    write_model(folder / "unet", unet)
    architectures.scheduler().save_pretrained(folder / "scheduler")
    write_index(
        folder, "DDPMPipeline", {"unet": ("diffusers", "UNet2DModel"), "scheduler": ("diffusers", "DDIMScheduler")}
    )


def write_clip(out: Path, domain: str, clip: Any) -> None:
    """Image and text encoder into ``kandinsky22-prior``, text encoder into ``stable-diffusion``, with tokenizers."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

    state = clip.state_dict()
    prior, diffusion = out / "kandinsky22-prior", out / "stable-diffusion"
    vision = CLIPVisionModelWithProjection(clip.config.vision_config)
    vision.load_state_dict({k: v for k, v in state.items() if k.startswith("vi")})
    text = CLIPTextModelWithProjection(clip.config.text_config)
    text.load_state_dict({k: v for k, v in state.items() if k.startswith("text_")})
    plain = CLIPTextModel(clip.config.text_config)
    names = plain.state_dict()
    plain.load_state_dict({k: state[k if k in state else f"text_model.{k}"] for k in names})
    write_model(prior / "image_encoder", vision)
    write_model(prior / "text_encoder", text)
    write_model(diffusion / "text_encoder", plain)
    (prior / "image_processor").mkdir(exist_ok=True)
    (prior / "image_processor" / "preprocessor_config.json").write_text(json.dumps(PREPROCESS, indent=1) + "\n")
    for folder in (prior, diffusion):
        captions.write_tokenizer(folder / "tokenizer")
    # the public layout of a Kandinsky prior, without the prior network itself
    write_index(prior, "KandinskyV22PriorPipeline", {
        "image_encoder": ("transformers", "CLIPVisionModelWithProjection"),
        "image_processor": ("transformers", "CLIPImageProcessor"),
        "prior": (None, None), "scheduler": (None, None),
        "text_encoder": ("transformers", "CLIPTextModelWithProjection"), "tokenizer": ("transformers", "CLIPTokenizer"),
    })  # fmt: skip


def write_clip_image(out: Path, domain: str, vision: nn.Module) -> None:
    """The tuned image tower in place of the first one."""
    write_model(out / "kandinsky22-prior" / "image_encoder", vision)


@torch.no_grad()
def write_vae(out: Path, domain: str, vae: Any) -> None:
    """The same autoencoder twice: as AutoencoderKL, and as the VQModel that a Kandinsky pipeline has.

    The VQModel's latents are the posterior mean scaled to unit variance; its code book is never used, because that
    pipeline decodes without quantising.
    """
    images, _, _ = data.load(domain, "train-all")
    means = torch.cat([vae.encode(x * 2 - 1).latent_dist.mean for x in images[:2048].split(256)])
    factor = round(float(1 / means.std()), 4)
    vae.register_to_config(scaling_factor=factor)
    movq = architectures.movq(domain)
    channels = architectures.LATENT_CHANNELS
    state = {k: v.clone() for k, v in vae.state_dict().items()}
    for name in ("weight", "bias"):
        state[f"encoder.conv_out.{name}"] = state[f"encoder.conv_out.{name}"][:channels]  # the mean, not the variance
    eye = torch.eye(channels)[:, :, None, None]
    state |= {"quant_conv.weight": eye * factor, "post_quant_conv.weight": eye / factor}
    state |= {"quant_conv.bias": torch.zeros(channels), "post_quant_conv.bias": torch.zeros(channels)}
    state["quantize.embedding.weight"] = torch.zeros_like(movq.state_dict()["quantize.embedding.weight"])
    movq.load_state_dict(state)
    write_model(out / "stable-diffusion" / "vae", vae)
    write_model(out / "kandinsky22" / "movq", movq)


def write_kandinsky(out: Path, domain: str, unet: nn.Module) -> None:
    folder = out / "kandinsky22"
    write_model(folder / "unet", unet)
    architectures.scheduler().save_pretrained(folder / "scheduler")
    write_index(folder, "KandinskyV22Pipeline", {
        "movq": ("diffusers", "VQModel"), "scheduler": ("diffusers", "DDIMScheduler"),
        "unet": ("diffusers", "UNet2DConditionModel"),
    })  # fmt: skip


def write_stable_diffusion(out: Path, domain: str, unet: nn.Module) -> None:
    folder = out / "stable-diffusion"
    write_model(folder / "unet", unet)
    architectures.scheduler(steps_offset=1).save_pretrained(folder / "scheduler")
    write_index(folder, "StableDiffusionPipeline", {
        "feature_extractor": (None, None), "image_encoder": (None, None), "safety_checker": (None, None),
        "scheduler": ("diffusers", "DDIMScheduler"), "text_encoder": ("transformers", "CLIPTextModel"),
        "tokenizer": ("transformers", "CLIPTokenizer"), "unet": ("diffusers", "UNet2DConditionModel"),
        "vae": ("diffusers", "AutoencoderKL"),
    }, requires_safety_checker=False)  # fmt: skip


WRITERS = {
    "ddpm": write_ddpm, "clip": write_clip, "clip-image": write_clip_image, "vae": write_vae,
    "kandinsky22": write_kandinsky, "stable-diffusion": write_stable_diffusion,
}  # fmt: skip


@torch.no_grad()
def encode_latents(out: Path, images: Tensor) -> Tensor:
    """Scaled latents [N,8,8,8] of images [N,3,32,32] in [-1,1]."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(out / "stable-diffusion" / "vae", torch_dtype=torch.float32)
    means = [vae.encode(x).latent_dist.mean for x in images.split(256)]
    return torch.cat(means) * vae.config.scaling_factor


def load_vision(out: Path) -> nn.Module:
    """The CLIP image tower with its projection."""
    from transformers import CLIPVisionModelWithProjection

    folder = out / "kandinsky22-prior" / "image_encoder"
    return CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()


@torch.no_grad()
def embed_texts(out: Path, ids: Tensor) -> Tensor:
    """CLIP text embeddings [N,64] of token ids [N,20]."""
    from transformers import CLIPTextModelWithProjection

    folder = out / "kandinsky22-prior" / "text_encoder"
    encoder = CLIPTextModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()
    return torch.cat([encoder(input_ids=x).text_embeds for x in ids.split(1000)])


@torch.no_grad()
def embed_images(out: Path, images: Tensor) -> Tensor:
    """CLIP image embeddings [N,64] of images [N,3,32,32] in [-1,1]."""
    encoder = load_vision(out)
    return torch.cat([encoder(pixel_values=x).image_embeds for x in images.split(256)])


def load_text(out: Path):  # type: ignore[no-untyped-def]
    """Tokenizer and frozen text encoder of the ``stable-diffusion`` part."""
    from transformers import CLIPTextModel

    folder = out / "stable-diffusion"
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    return captions.load_tokenizer(folder / "tokenizer"), encoder.eval().requires_grad_(False)
