"""What the parts of a pipeline are trained by; each returns a function of the network, whose randomness is torch's.

Images are float [N,3,H,W] in [-1,1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from counterlens.core.training.networks import scheduler

Loss = Callable[[nn.Module], Tensor]
Conditions = Callable[[Tensor, torch.device], dict[str, Any]]
UNCONDITIONAL = 0.1  # share of a batch that learns without its condition


def velocity_loss(x0: Tensor, batch: int, conditions: Conditions | None = None) -> Loss:
    """Velocity prediction (Salimans & Ho 2022, appendix D) on images or latents [N,C,h,w], under what ``conditions``
    gives for the rows of a batch."""
    levels = scheduler()

    def loss_of(unet: nn.Module) -> Tensor:
        device = next(unet.parameters()).device
        rows = torch.randint(len(x0), (batch,))
        z = x0[rows].to(device)
        noise, t = torch.randn(z.shape).to(device), torch.randint(1000, (batch,)).to(device)
        more = conditions(rows, device) if conditions else {}
        guess = unet(levels.add_noise(z, noise, t), t, **more).sample.float()
        return (guess[:, : z.shape[1]] - levels.get_velocity(z, noise, t)).square().mean()

    return loss_of


def vae_loss(images: Tensor, batch: int) -> Loss:
    """Squared and absolute error of what comes back, and a little of the divergence from a normal."""

    def loss_of(vae: Any) -> Tensor:
        x = images[torch.randint(len(images), (batch,))].to(next(vae.parameters()).device)
        posterior = vae.encode(x).latent_dist
        error = vae.decode(posterior.sample()).sample.float() - x
        kl = 0.5 * (posterior.mean.float().square() + posterior.var.float() - 1 - posterior.logvar.float())
        return error.square().mean() + 0.05 * error.abs().mean() + 2e-5 * kl.mean()

    return loss_of


def contrast(logits: Tensor, same: Tensor) -> Tensor:
    """Symmetric contrastive loss of logits [B,B], where ``same`` [B,B] says who are partners."""
    wanted = same.float() / same.float().sum(1, keepdim=True)
    return (cross_entropy(logits, wanted) + cross_entropy(logits.T, wanted.T)) / 2


def clip_loss(images: Tensor, ids: Tensor, batch: int) -> Loss:
    """Images against their captions ``ids`` [N,V,L], of which the first is complete; equal captions within a batch
    count as each other's partners."""
    variants = ids.shape[1]

    def loss_of(clip: nn.Module) -> Tensor:
        device = next(clip.parameters()).device
        rows = torch.randint(len(images), (batch,))
        # half of the batch with the complete caption
        which = torch.randint(variants, (batch,)) * (torch.rand(batch) > 0.5)
        tokens = ids[rows, which]
        out = clip(input_ids=tokens.to(device), pixel_values=images[rows].to(device))
        same = (tokens[:, None] == tokens[None]).all(-1).to(device)
        return contrast(out.logits_per_text.float(), same)

    return loss_of


def named_loss(
    images: Tensor, labels: Tensor, ids: Tensor, batch: int, moved: Callable[[Tensor], Tensor], scale: float = 10.0
) -> Loss:
    """CLIP for images whose only texts are the names of their classes, ``ids`` [K,V,L].

    Half of it is the class (images against names), half is which image it is: two moved copies of an image are
    partners (SimCLR, Chen et al. 2020), so that an embedding also says what the class does not.
    """
    variants = ids.shape[1]
    weight = len(labels) / torch.bincount(labels, minlength=len(ids)).clamp_min(1).float()
    chance = weight[labels]  # every class is drawn as often

    def loss_of(clip: Any) -> Tensor:
        device = next(clip.parameters()).device
        rows = torch.multinomial(chance, batch, replacement=True)
        x = images[rows]
        both = torch.cat([moved(x), moved(x)]).to(device)
        tokens = ids[torch.arange(len(ids)), torch.randint(variants, (len(ids),))].to(device)
        out = clip(input_ids=tokens, pixel_values=both)
        seen, said = normalize(out.image_embeds.float(), dim=1), normalize(out.text_embeds.float(), dim=1)
        by_class = cross_entropy(scale * seen @ said.T, labels[rows].repeat(2).to(device))
        one, other = seen.chunk(2)
        same = rows[:, None] == rows[None]
        return by_class + 0.5 * contrast(scale * one @ other.T, same.to(device))

    return loss_of


def text_conditions(encoder: Any, ids: Tensor, empty: Tensor) -> Conditions:
    """One of the captions [N,V,L] of each row through the frozen text encoder; ``empty`` [L] for some."""

    def of(rows: Tensor, device: torch.device) -> dict[str, Any]:
        tokens = ids[rows, torch.randint(ids.shape[1], (len(rows),))]
        tokens[torch.rand(len(rows)) < UNCONDITIONAL] = empty
        with torch.no_grad():
            return {"encoder_hidden_states": encoder.to(device)(tokens.to(device)).last_hidden_state}

    return of


def embedding_conditions(embeddings: Tensor, zero: Tensor) -> Conditions:
    """The embedding [N,D] of each row; for some one of both things that pipelines use as "no image": that of a zero
    image, and zeros."""

    def of(rows: Tensor, device: torch.device) -> dict[str, Any]:
        chosen, drop = embeddings[rows], torch.rand(len(rows))
        chosen[drop < UNCONDITIONAL / 2] = zero
        chosen[drop > 1 - UNCONDITIONAL / 2] = 0
        return {"encoder_hidden_states": None, "added_cond_kwargs": {"image_embeds": chosen.to(device)}}

    return of
