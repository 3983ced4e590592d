"""Trained parts written in diffusers' own layout, in half precision, and read back for the parts that build on them.

A folder of pipelines holds ``ddpm``, ``kandinsky22``, ``kandinsky22-prior`` and ``stable-diffusion``, or some of them.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from counterlens.core.training import networks
from counterlens.core.training.tokenizer import load_tokenizer
from counterlens.core.utils import files

PRIOR = "kandinsky22-prior"


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


def write_ddpm(out: Path, unet: nn.Module) -> None:
    folder = out / "ddpm"
    write_model(folder / "unet", unet)
    networks.scheduler().save_pretrained(folder / "scheduler")
    write_index(
        folder, "DDPMPipeline", {"unet": ("diffusers", "UNet2DModel"), "scheduler": ("diffusers", "DDIMScheduler")}
    )


def write_clip(out: Path, clip: Any, write_tokenizer: Callable[[Path], None]) -> None:
    """Image and text encoder into ``kandinsky22-prior``, text encoder into ``stable-diffusion``, with tokenizers."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

    state = clip.state_dict()
    prior, diffusion = out / PRIOR, out / "stable-diffusion"
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
    _write_processor(prior / "image_processor", int(clip.config.vision_config.image_size))
    for folder in (prior, diffusion):
        write_tokenizer(folder / "tokenizer")
    # the public layout of a Kandinsky prior, without the prior network itself
    write_index(prior, "KandinskyV22PriorPipeline", {
        "image_encoder": ("transformers", "CLIPVisionModelWithProjection"),
        "image_processor": ("transformers", "CLIPImageProcessor"),
        "prior": (None, None), "scheduler": (None, None),
        "text_encoder": ("transformers", "CLIPTextModelWithProjection"), "tokenizer": ("transformers", "CLIPTokenizer"),
    })  # fmt: skip


def _write_processor(folder: Path, side: int) -> None:
    content = {
        "image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": {"shortest_edge": side}, "resample": 3,
        "do_center_crop": True, "crop_size": {"height": side, "width": side}, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        "do_convert_rgb": True,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "preprocessor_config.json").write_text(json.dumps(content, indent=1) + "\n")


@torch.no_grad()
def write_vae(out: Path, vae: Any, movq: Any, images: Tensor) -> None:
    """The same autoencoder twice: as AutoencoderKL, and as the VQModel that a Kandinsky pipeline has.

    The VQModel's latents are the posterior mean scaled to unit variance over ``images`` [N,3,H,W] in [-1,1]; its code
    book is never used, because that pipeline decodes without quantising.
    """
    means = torch.cat([vae.encode(x).latent_dist.mean for x in images[:2048].split(256)])
    factor = round(float(1 / means.std()), 4)
    vae.register_to_config(scaling_factor=factor)
    channels = int(vae.config.latent_channels)
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


def write_kandinsky(out: Path, unet: nn.Module) -> None:
    folder = out / "kandinsky22"
    write_model(folder / "unet", unet)
    networks.scheduler().save_pretrained(folder / "scheduler")
    write_index(folder, "KandinskyV22Pipeline", {
        "movq": ("diffusers", "VQModel"), "scheduler": ("diffusers", "DDIMScheduler"),
        "unet": ("diffusers", "UNet2DConditionModel"),
    })  # fmt: skip


def write_stable_diffusion(out: Path, unet: nn.Module) -> None:
    folder = out / "stable-diffusion"
    write_model(folder / "unet", unet)
    networks.scheduler(steps_offset=1).save_pretrained(folder / "scheduler")
    write_index(folder, "StableDiffusionPipeline", {
        "feature_extractor": (None, None), "image_encoder": (None, None), "safety_checker": (None, None),
        "scheduler": ("diffusers", "DDIMScheduler"), "text_encoder": ("transformers", "CLIPTextModel"),
        "tokenizer": ("transformers", "CLIPTokenizer"), "unet": ("diffusers", "UNet2DConditionModel"),
        "vae": ("diffusers", "AutoencoderKL"),
    }, requires_safety_checker=False)  # fmt: skip


UNETS = {"ddpm": write_ddpm, "kandinsky22": write_kandinsky, "stable-diffusion": write_stable_diffusion}


@torch.no_grad()
def encode_latents(out: Path, images: Tensor, device: str = "cpu") -> Tensor:
    """Scaled latents [N,C,h,w] of images [N,3,H,W] in [-1,1]."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(out / "stable-diffusion" / "vae", torch_dtype=torch.float32).to(device)
    means = [vae.encode(x.to(device)).latent_dist.mean.cpu() for x in images.split(256)]
    return torch.cat(means) * vae.config.scaling_factor


def load_vision(out: Path) -> nn.Module:
    """The CLIP image tower with its projection."""
    from transformers import CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection.from_pretrained(out / PRIOR / "image_encoder", dtype=torch.float32).eval()


@torch.no_grad()
def embed_texts(out: Path, ids: Tensor) -> Tensor:
    """CLIP text embeddings [N,D] of token ids [N,L]."""
    from transformers import CLIPTextModelWithProjection

    folder = out / PRIOR / "text_encoder"
    encoder = CLIPTextModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()
    return torch.cat([encoder(input_ids=x).text_embeds for x in ids.split(1000)])


@torch.no_grad()
def embed_images(out: Path, images: Tensor, device: str = "cpu") -> Tensor:
    """CLIP image embeddings [N,D] of images [N,3,H,W] in [-1,1]."""
    encoder = load_vision(out).to(device)
    return torch.cat([encoder(pixel_values=x.to(device)).image_embeds.cpu() for x in images.split(256)])


def load_text(out: Path) -> tuple[Any, Any]:
    """Tokenizer and frozen text encoder of the ``stable-diffusion`` part."""
    from transformers import CLIPTextModel

    folder = out / "stable-diffusion"
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    return load_tokenizer(folder / "tokenizer"), encoder.eval().requires_grad_(False)
