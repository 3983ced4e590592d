"""Training of the pipelines: pixel U-Net, CLIP, VAE, and the two latent U-Nets, written in diffusers' own layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from counterlens.core.training import export, losses, networks
from counterlens.core.training.fit import DEFAULT, Fit, Setup, write_json
from counterlens.core.training.losses import Loss
from counterlens.core.training.tokenizer import load_tokenizer, token_ids
from counterlens.plugins.embedded.content import captions, data
from counterlens.plugins.embedded.content.architectures import SHAPES
from counterlens.plugins.embedded.make.export import tokenizer_folder, write
from counterlens.plugins.trainers.backbones.sizes import PartRecipe

COPIES = 12  # of each digit for the generators: as it is, and eleven slightly moved ones
VARIANTS = 4  # captions of an image
LOGIT_SCALE = 20.0  # of the cosines of a locked text tower


# bfloat16 speeds up pixels (0.23 s a step against 0.34) and slows down 8x8 latents (0.19 s against 0.16)
RECIPES: dict[tuple[str, str], PartRecipe] = {
    ("shapes", "ddpm"): PartRecipe(2200, 1.2e-3, 32, half=True),
    ("shapes", "clip"): PartRecipe(900, 1e-3, 128, 0.99, half=True),
    ("shapes", "clip-image"): PartRecipe(3500, 1e-3, 96, 0.99),
    ("shapes", "vae"): PartRecipe(800, 2e-3, 64, 0.99, half=True),
    ("shapes", "kandinsky22"): PartRecipe(9000, 1.2e-3, 32),
    ("shapes", "stable-diffusion"): PartRecipe(8000, 1.2e-3, 32),
    ("digits", "ddpm"): PartRecipe(4500, 1.2e-3, 32, half=True),
    ("digits", "clip"): PartRecipe(500, 1e-3, 128, 0.99, half=True),
    ("digits", "vae"): PartRecipe(700, 2e-3, 64, 0.99, half=True),
    ("digits", "kandinsky22"): PartRecipe(4000, 1.2e-3, 32),
    ("digits", "stable-diffusion"): PartRecipe(4000, 1.2e-3, 32),
}


def generator_images(domain: str) -> Tensor:
    """What the generators learn from, [N,3,32,32] in [-1,1]."""
    images, _, _ = data.load(domain, "train-all")
    if domain == "digits":
        torch.manual_seed(11)
        images = torch.cat([images] + [data.jitter(images, 4, 0.015, 0.04) for _ in range(COPIES - 1)])
    return images * 2 - 1


def caption_ids(domain: str, tokenizer: object) -> Tensor:
    """Token ids of VARIANTS captions of every training image, [N,VARIANTS,20]; the first one is complete."""
    images, labels, drawn = data.load(domain, "train-all")
    rng = np.random.default_rng(5)
    texts: list[str] = []
    pictures = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for i in range(len(images)):
        for k in range(VARIANTS):
            choice = rng if k else None
            texts.append(
                captions.of_shape(drawn[i], choice) if drawn else captions.of_digit(pictures[i], int(labels[i]), choice)
            )
    ids = token_ids(tokenizer, texts).view(len(images), VARIANTS, -1)
    return ids.repeat(COPIES, 1, 1) if domain == "digits" else ids


def class_swapped(ids: Tensor, tokenizer: Any) -> Tensor:
    """The same captions with the words of the other class: what hard negatives are made of (shapes only)."""
    words = [("kiki", "bouba"), ("spiky", "round"), ("pointed", "soft")]
    table = torch.arange(len(tokenizer))
    for one, other in words:
        a, b = (tokenizer(word, add_special_tokens=False).input_ids[0] for word in (one, other))
        table[a], table[b] = b, a
    return table[ids]


def clip_image_loss(domain: str, batch: int, out: Path) -> Loss:
    """The image tower alone against the finished text tower, also by the class: own captions of the other class are
    negatives, and the shortest captions ("a kiki", "a bouba") must tell the image apart.

    Colour and place tell most captions of a batch apart, so that a contrastive loss alone hardly asks for the class
    (hard negatives: Yuksekgonul et al. 2023; a locked tower: Zhai et al. 2022). The shortest captions make the class
    a direction, which embedding arithmetic moves along.
    """
    images = generator_images(domain)
    tokenizer = load_tokenizer(out / "kandinsky22-prior" / "tokenizer")
    ids = caption_ids(domain, tokenizer)
    shortest = token_ids(tokenizer, [f"a {name}" for name in data.classes(domain)])
    classes = nn.functional.normalize(export.embed_texts(out, shortest), dim=1)
    labels = data.load(domain, "train-all")[1]
    texts, swapped = (export.embed_texts(out, x.flatten(0, 1)) for x in (ids, class_swapped(ids, tokenizer)))

    def loss_of(vision: nn.Module) -> Tensor:
        device = next(vision.parameters()).device
        rows = torch.randint(len(images), (batch,))
        which = rows * VARIANTS + torch.randint(VARIANTS, (batch,)) * (torch.rand(batch) > 0.5)
        seen = nn.functional.normalize(vision(pixel_values=images[rows].to(device)).image_embeds.float(), dim=1)
        said = nn.functional.normalize(torch.cat([texts[which], swapped[which]]), dim=1).to(device)
        logits = LOGIT_SCALE * seen @ said.T
        same = (said[:batch] @ said[:batch].T > 1 - 1e-5).float()
        wanted = same / same.sum(1, keepdim=True)
        to_text = nn.functional.cross_entropy(logits, torch.cat([wanted, torch.zeros_like(wanted)], 1))
        to_image = nn.functional.cross_entropy(logits[:, :batch].T, wanted.T)
        to_class = nn.functional.cross_entropy(LOGIT_SCALE * seen @ classes.T.to(device), labels[rows].to(device))
        return (to_text + to_image) / 2 + to_class

    return loss_of


def latent_loss(domain: str, kind: str, batch: int, out: Path) -> Loss:
    """Velocity prediction on latents, with text tokens or an image embedding as the condition."""
    images = generator_images(domain)
    if kind == "stable-diffusion":
        tokenizer, encoder = export.load_text(out)
        (empty,) = token_ids(tokenizer, [""])
        conditions = losses.text_conditions(encoder, caption_ids(domain, tokenizer), empty)
    else:
        zero = export.embed_images(out, torch.zeros(1, 3, 32, 32))
        conditions = losses.embedding_conditions(export.embed_images(out, images), zero)
    return losses.velocity_loss(export.encode_latents(out, images), batch, conditions)


def build(domain: str, part: str, batch: int, out: Path) -> tuple[nn.Module, Loss]:
    shape = SHAPES[domain]
    if part == "ddpm":
        return networks.pixel_unet(shape), losses.velocity_loss(generator_images(domain), batch)
    if part == "clip":
        ids = caption_ids(domain, load_tokenizer(tokenizer_folder()))
        clip = networks.clip(shape, len(captions.vocabulary()[0]))
        return clip, losses.clip_loss(generator_images(domain), ids, batch)
    if part == "clip-image":
        return export.load_vision(out), clip_image_loss(domain, batch, out)
    if part == "vae":
        return networks.vae(shape), losses.vae_loss(generator_images(domain), batch)
    return networks.latent_unet(part, shape), latent_loss(domain, part, batch, out)


def train_part(domain: str, part: str, work: Path, out: Path, steps: int | None = None, setup: Setup = DEFAULT) -> None:
    """Train one part and write it under ``out``; latent parts read the CLIP and the VAE there."""
    recipe = RECIPES[domain, part]
    torch.manual_seed(setup.seed)
    model, loss_of = build(domain, part, recipe.batch, out)
    fit = Fit(model, work / part, steps or recipe.steps, recipe.lr, setup, recipe.decay, recipe.half)
    record = fit.run(loss_of, f"{domain} {part}") | {"batch": recipe.batch}
    write(out, domain, part, model.cpu())
    write_json(out / "records" / f"{part}.json", record)
