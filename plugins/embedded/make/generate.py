"""Images from the trained pipelines by their own diffusers samplers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from counterlens.core.training import export
from counterlens.plugins.embedded.content import data

GUIDANCE = 2.0
BATCH = 125


def pipeline(folder: Path):  # type: ignore[no-untyped-def]
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def ddpm(root: Path, count: int, steps: int = 50, seed: int = 0) -> Tensor:
    """Unconditional images [count,3,32,32] in [0,1]."""
    pipe, generator = pipeline(root / "ddpm"), torch.Generator().manual_seed(seed)
    sizes = [min(BATCH, count - i) for i in range(0, count, BATCH)]
    parts = [pipe(n, generator, num_inference_steps=steps, output_type="pt").images for n in sizes]
    return torch.cat(parts)


def stable_diffusion(
    root: Path, prompts: list[str], steps: int = 50, seed: int = 0, guidance: float = GUIDANCE
) -> Tensor:
    """One image a prompt."""
    pipe, generator = pipeline(root / "stable-diffusion"), torch.Generator().manual_seed(seed)
    parts = [
        pipe(prompts[i : i + BATCH], num_inference_steps=steps, guidance_scale=guidance, generator=generator,
             output_type="pt").images
        for i in range(0, len(prompts), BATCH)
    ]  # fmt: skip
    return torch.cat(parts)


def kandinsky22(
    root: Path, images: Tensor, steps: int = 50, seed: int = 0, guidance: float = GUIDANCE, moves: Tensor | None = None
) -> Tensor:
    """One image for the CLIP embedding of each of the images [N,3,32,32] in [0,1].

    ``moves`` [N,D] are added to the embeddings on the unit sphere; lengths stay.
    """
    pipe, generator = pipeline(root / "kandinsky22"), torch.Generator().manual_seed(seed)
    embeddings = export.embed_images(root, images * 2 - 1)
    if moves is not None:
        moved = normalize(normalize(embeddings, dim=1) + moves, dim=1)
        embeddings = embeddings.norm(dim=1, keepdim=True) * moved
    zero = export.embed_images(root, torch.zeros(1, 3, 32, 32))
    parts = [
        pipe(image_embeds=e, negative_image_embeds=zero.expand_as(e), height=32, width=32, num_inference_steps=steps,
             guidance_scale=guidance, generator=generator, output_type="pt").images
        for e in embeddings.split(BATCH)
    ]  # fmt: skip
    # as tensors, this pipeline gives images in [-1,1], unlike the others
    return (torch.cat(parts) / 2 + 0.5).clamp(0, 1)


def toward(root: Path, domain: str, labels: Tensor) -> Tensor:
    """What asks for a class where no word can: each class's mean unit embedding less that of the others."""
    images, classes, _ = data.load(domain, "train-all")
    units = normalize(export.embed_images(root, images[:2000] * 2 - 1), dim=1)
    of = [classes[:2000] == c for c in range(len(data.classes(domain)))]
    return torch.stack([units[rows].mean(0) - units[~rows].mean(0) for rows in of])[labels]


def asked(domain: str, count: int) -> tuple[Tensor, Tensor, list[str]]:
    """Images, labels and complete captions of ``count`` held-out images, repeated where there are fewer."""
    from counterlens.plugins.embedded.content import captions

    images, labels, drawn = data.load(domain, "test")
    rows = torch.arange(count) % len(images)
    pictures = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    texts = [
        captions.of_shape(drawn[i]) if drawn else captions.of_digit(pictures[i], int(labels[i])) for i in rows.tolist()
    ]
    return images[rows], labels[rows], texts
