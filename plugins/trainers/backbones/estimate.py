"""How long and how big: a few steps of every part on noise, before anything is trained."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from counterlens.core.training import losses, networks
from counterlens.core.training.augment import jitter

if TYPE_CHECKING:
    from counterlens.plugins.trainers.backbones.plan import BackbonePlan

TIMED = 2  # steps, after one that is not counted


def estimate(plan: BackbonePlan) -> dict[str, Any]:
    """Parts with parameters, steps and seconds on this machine as busy as it is, and the bytes of all weights."""
    parts = {part: _part(plan, part) for part in plan.parts}
    return {
        "out": str(plan.out),
        "pixels": plan.shape.pixels,
        "latents": f"{plan.shape.latent_channels} x {plan.shape.latent_size} x {plan.shape.latent_size}",
        "parts": parts,
        "seconds": round(sum(part["seconds"] for part in parts.values())),
        # half precision; CLIP's text tower and the autoencoder are written twice
        "bytes": sum(2 * part["parameters"] * (2 if name in ("clip", "vae") else 1) for name, part in parts.items()),
        "checkpoint_bytes": max(16 * part["parameters"] for part in parts.values()),
    }


def _part(plan: BackbonePlan, part: str) -> dict[str, Any]:
    recipe, device = plan.recipe(part), plan.device
    model, loss_of = _built(plan, part, recipe.batch)
    model = model.to(device).train()
    begun = 0.0
    for k in range(TIMED + 1):
        if k == 1:
            begun = time.monotonic()
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=recipe.half):
            loss = loss_of(model)
        loss.backward()
        float(loss.detach())  # waits for the device
    seconds = (time.monotonic() - begun) / TIMED
    parameters = sum(p.numel() for p in model.parameters())
    rest = {"steps": recipe.steps, "batch": recipe.batch, "seconds_a_step": round(seconds, 3)}
    return {"parameters": parameters, **rest, "seconds": round(seconds * recipe.steps)}


def _built(plan: BackbonePlan, part: str, batch: int) -> tuple[nn.Module, losses.Loss]:
    shape, count = plan.shape, 8
    images = torch.rand(count, 3, shape.pixels, shape.pixels) * 2 - 1
    if part == "clip":
        ids = torch.zeros(2, 1, shape.max_length, dtype=torch.long)
        ids[..., -1] = 599  # the end of a text
        labels = torch.arange(count) % 2
        return networks.clip(shape, 600), losses.named_loss(
            images, labels, ids, batch, lambda x: jitter(x, 4, 0.05, 0.1)
        )
    if part == "vae":
        return networks.vae(shape), losses.vae_loss(images, batch)
    if part == "ddpm":
        return networks.pixel_unet(shape), losses.velocity_loss(images, batch)
    z = torch.randn(count, shape.latent_channels, shape.latent_size, shape.latent_size)
    if part == networks.IMAGE:
        conditions = losses.embedding_conditions(torch.randn(count, shape.embedding), torch.zeros(shape.embedding))
    else:
        conditions = _tokens(torch.randn(1, shape.max_length, shape.width))
    return networks.latent_unet(part, shape), losses.velocity_loss(z, batch, conditions)


def _tokens(tokens: torch.Tensor) -> losses.Conditions:
    return lambda rows, device: {"encoder_hidden_states": tokens.expand(len(rows), -1, -1).to(device)}
