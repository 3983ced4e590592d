"""Sizes of pipelines trained from scratch, and how long each part is trained."""

from __future__ import annotations

from dataclasses import dataclass

from counterlens.core.training.networks import Shape

PARTS = ("clip", "vae", "kandinsky22", "stable-diffusion", "ddpm")
NEEDS = {"kandinsky22": ("clip", "vae"), "stable-diffusion": ("clip", "vae"), "ddpm": ()}

SHAPES = {
    "tiny": Shape(32, (32, 48, 48, 48), (16, 32, 32), (48, 48)),
    "small": Shape(64, (24, 48, 64, 96), (16, 32, 64), (64, 96), latent_channels=4, attention_from=1, patch=8),
    "base": Shape(
        256,
        (128, 128, 256, 256, 512),
        (128, 256, 512, 512),
        (192, 384, 576, 576),
        latent_channels=4,
        attention_from=1,
        embedding=512,
        width=384,
        patch=16,
        image_width=384,
        layers=2,
        groups=32,
        vision_layers=8,
    ),
}


@dataclass(frozen=True)
class PartRecipe:
    steps: int
    lr: float
    batch: int
    decay: float = 0.998
    half: bool = False  # bfloat16 where it is faster than float32 on a CPU; always on a GPU


RECIPES: dict[str, dict[str, PartRecipe]] = {
    "tiny": {
        "clip": PartRecipe(600, 1e-3, 64, 0.99),
        "vae": PartRecipe(700, 2e-3, 64, 0.99, half=True),
        "kandinsky22": PartRecipe(4000, 1.2e-3, 32),
        "stable-diffusion": PartRecipe(4000, 1.2e-3, 32),
        "ddpm": PartRecipe(4500, 1.2e-3, 32, half=True),
    },
    "small": {
        "clip": PartRecipe(600, 1e-3, 64, 0.99, half=True),
        "vae": PartRecipe(1500, 2e-3, 16, 0.99, half=True),
        "kandinsky22": PartRecipe(2600, 1.2e-3, 16, half=True),
        "stable-diffusion": PartRecipe(2000, 1.2e-3, 16, half=True),
        "ddpm": PartRecipe(2000, 1.2e-3, 16, half=True),
    },
    "base": {
        "clip": PartRecipe(10_000, 5e-4, 256, 0.999),
        "vae": PartRecipe(40_000, 2e-4, 32, 0.999),
        "kandinsky22": PartRecipe(100_000, 2e-4, 64, 0.9995),
        "stable-diffusion": PartRecipe(100_000, 2e-4, 64, 0.9995),
        "ddpm": PartRecipe(100_000, 1e-4, 32, 0.9995),
    },
}
