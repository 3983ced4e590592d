"""How well the trained pipelines give a test image back: autoencoder, edit-friendly inversion, DDIM inversion."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from counterlens.core.engine.request import Request
from counterlens.core.engine.session import explain
from counterlens.core.images.load import load_picture
from counterlens.core.images.pixels import psnr
from counterlens.core.plugin import registry
from counterlens.plugins.embedded.content import data
from counterlens.plugins.embedded.make import generate

CEILING_DB = 60.0  # of an image given back to the last bit: beyond what a PSNR of 8-bit pictures means


def quality(images: Tensor, back: Tensor) -> np.ndarray:
    """PSNR in dB of each of the images [N,3,32,32] in [0,1], at most CEILING_DB."""
    return psnr(images.double(), back.double()).clamp(max=CEILING_DB).numpy()


def reconstructions(domain: str, root: Path, part: str, count: int, inverter: str, steps: int) -> Iterator[Tensor]:
    """Images [3,32,32] in [0,1] that the method ``reconstruct`` saves of the first ``count`` test images."""
    loaded = registry.load_registry(third_party=False)
    request = Request(
        images=tuple(f"{domain}:{i}" for i in range(count)),
        method="reconstruct",
        model=str(root / part),
        inverter=inverter,
        steps=steps,
        batch=50,
        device="cpu",
    )
    with tempfile.TemporaryDirectory() as out:
        for record in explain(request, loaded, out=out):
            if record["failure"]:
                raise RuntimeError(f"{record['image']}: {record['failure']}")
            yield data.tensor(load_picture(Path(record["counterfactual"])).pixels[None].copy())[0]


@torch.no_grad()
def vae_round_trip(domain: str, root: Path, count: int) -> tuple[Tensor, Tensor]:
    """Test images and what the autoencoder makes of them, rounded as a saved picture is."""
    images = data.load(domain, "test")[0][:count]
    vae = generate.pipeline(root / "stable-diffusion").vae
    back = [vae.decode(vae.encode(x * 2 - 1).latent_dist.mean).sample / 2 + 0.5 for x in images.split(100)]
    return images, torch.cat(back).clamp(0, 1).mul(255).round() / 255


def of_inversions(domain: str, root: Path, part: str, count: int = 100, steps: int = 50) -> dict[str, object]:
    """Mean PSNR of both inversions, and the worst loss against the autoencoder alone, paired by image."""
    images, round_trip = vae_round_trip(domain, root, count)
    kept = quality(images, torch.stack([*reconstructions(domain, root, part, count, "edit-friendly", steps)]))
    ddim = quality(images, torch.stack([*reconstructions(domain, root, part, count, "ddim", steps)]))
    floor = np.full(count, CEILING_DB) if part == "ddpm" else quality(images, round_trip)
    return {
        "images": count,
        "steps": steps,
        "edit_friendly_psnr_db": round(float(kept.mean()), 2),
        "edit_friendly_worst_loss_db": round(float((floor - kept).max()), 3),
        "ddim_psnr_db": round(float(ddim.mean()), 2),
        "ddim_least_psnr_db": round(float(ddim.min()), 2),
    }
