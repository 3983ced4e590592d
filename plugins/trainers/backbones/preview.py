"""What is to be seen of a training: held-out losses, curves, sheets of samples, and whether images were memorised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from counterlens.core.training import export, losses, networks
from counterlens.core.training.fit import write_bytes
from counterlens.core.training.tokenizer import token_ids
from counterlens.core.utils.seeds import generator

if TYPE_CHECKING:
    from counterlens.core.training.fit import Fit
    from counterlens.plugins.trainers.backbones.images import Pictures
    from counterlens.plugins.trainers.backbones.plan import BackbonePlan

HELD_BATCHES = 4
SAMPLES = 16
STEPS = 25


class Preview:
    """Called now and then with a run whose model holds the averaged weights."""

    def __init__(self, plan: BackbonePlan, data: Pictures, part: str, held_loss: losses.Loss) -> None:
        self.plan, self.data, self.part, self.held_loss = plan, data, part, held_loss

    def __call__(self, fit: Fit) -> None:
        torch.manual_seed(1)  # always the same noises
        losses_of = [float(self.held_loss(fit.model)) for _ in range(HELD_BATCHES)]
        fit.held.append([float(fit.step), round(sum(losses_of) / len(losses_of), 5)])
        folder = self.plan.out / "progress"
        write_bytes(folder / f"{self.part}-loss.png", curves(self.part, fit.losses, fit.held))
        if self.part != "clip":
            write_bytes(folder / f"{self.part}.png", png(self.images(fit.model)))

    def images(self, model: Any) -> Tensor:
        """Of an autoencoder held-out images and what comes back; of a U-Net samples."""
        if self.part == "vae":
            x = self.data.held[:SAMPLES].to(self.plan.device)
            return torch.cat([x, model.decode(model.encode(x).latent_dist.mean).sample]).float().cpu()
        return samples(self.plan, self.data, self.part, model, SAMPLES)


@torch.no_grad()
def samples(plan: BackbonePlan, data: Pictures, kind: str, unet: Any, count: int, seed: int = 0) -> Tensor:
    """Images [count,3,S,S] in [-1,1]: DDIM from noise; under held-out embeddings, or the classes' names, in turn."""
    device, shape, levels = plan.device, plan.shape, networks.scheduler()
    channels, side = (3, shape.pixels) if kind == "ddpm" else (shape.latent_channels, shape.latent_size)
    g = generator(seed)
    x = torch.randn(count, channels, side, side, generator=g).to(device)
    more = {} if kind == "ddpm" else _conditions(plan, data, kind, count)
    levels.set_timesteps(STEPS)
    for t in levels.timesteps:
        out = unet(x, t.to(device), **more).sample[:, :channels].float()
        x = levels.step(out, t, x).prev_sample
    return x.cpu() if kind == "ddpm" else _decoded(plan, x)


def _conditions(plan: BackbonePlan, data: Pictures, kind: str, count: int) -> dict[str, Any]:
    if kind == networks.TEXT:
        tokenizer, encoder = export.load_text(plan.out)
        labels = data.labels
        ids = token_ids(tokenizer, [f"a {labels[k % len(labels)]}" for k in range(count)])
        return {"encoder_hidden_states": encoder(ids).last_hidden_state.to(plan.device)}
    images = data.held[torch.arange(count) % len(data.held)]
    embeddings = export.embed_images(plan.out, images).to(plan.device)
    return {"encoder_hidden_states": None, "added_cond_kwargs": {"image_embeds": embeddings}}


def _decoded(plan: BackbonePlan, z: Tensor) -> Tensor:
    from diffusers import AutoencoderKL

    folder = plan.out / "stable-diffusion" / "vae"
    vae = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32).to(z.device)
    return vae.decode(z / vae.config.scaling_factor).sample.cpu()


@torch.no_grad()
def memorised(plan: BackbonePlan, data: Pictures, kind: str) -> dict[str, Any]:
    """Distances from generated images to the nearest training image, against those of held-out images.

    ``copies`` is the share of generated images nearer than all but a hundredth of the held-out ones, and than half of
    their median: what is that near was learned by heart. The sheet shows each above its neighbour.
    """
    from diffusers import UNet2DConditionModel, UNet2DModel

    cls = UNet2DModel if kind == "ddpm" else UNet2DConditionModel
    unet = cls.from_pretrained(plan.out / kind / "unet", torch_dtype=torch.float32).to(plan.device).eval()
    count = 2 * SAMPLES
    made = samples(plan, data, kind, unet, count, seed=1).clamp(-1, 1)
    near, rows = nearest(made, data.train)
    held, _ = nearest(data.held, data.train)
    limit = min(float(held.quantile(0.01)), 0.5 * float(held.median()))
    pairs = torch.cat([made, data.train[rows]])
    write_bytes(plan.out / "progress" / f"{kind}-nearest.png", png(pairs, columns=count // 2))
    return {
        "generated": count,
        "nearest_training_image": round(float(near.median()), 4),
        "of_held_out_images": round(float(held.median()), 4),
        "copies": round(float((near < limit).float().mean()), 4),
    }


def nearest(images: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Root mean squared distance [N] to the nearest training image at 32 pixels a side, in [0,2], and its row."""
    from torch.nn.functional import adaptive_avg_pool2d

    a, b = (adaptive_avg_pool2d(x, 32).flatten(1) for x in (images, train))
    found = (torch.cdist(a, b) / a.shape[1] ** 0.5).min(1)
    return found.values, found.indices


def png(images: Tensor, columns: int = 8) -> bytes:
    """A contact sheet of images [N,3,S,S] in [-1,1]."""
    import io

    from counterlens.core.images.pixels import contact_sheet

    out = io.BytesIO()
    contact_sheet(images, columns, max(1, 96 // images.shape[-1])).save(out, "PNG")
    return out.getvalue()


def curves(name: str, train: list[list[float]], held: list[list[float]]) -> bytes:
    """The losses over the steps as a picture."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for label, rows in (("training", train), ("held out", held)):
        if rows:
            axes.plot(*zip(*rows, strict=True), label=label, marker="o" if label == "held out" else "")
    axes.set(xlabel="step", ylabel="loss", title=name, yscale="log")
    axes.legend()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def short(record: Mapping[str, Any]) -> dict[str, Any]:
    """What is printed of a part."""
    keys = ("steps", "parameters", "seconds", "final_loss")
    held = record["held_out_losses"]
    return {**{key: record[key] for key in keys}, "held_out_loss": held[-1][1] if held else None}
