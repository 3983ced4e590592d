"""Pipelines from scratch: the parts one after the other, each resumable, each seen while it is trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from counterlens.core.errors import UsageError
from counterlens.core.training import export, losses, networks, tokenizer
from counterlens.core.training.augment import jitter
from counterlens.core.training.fit import Fit, Setup, write_json
from counterlens.core.utils.digest import digest
from counterlens.plugins.trainers.backbones import preview
from counterlens.plugins.trainers.backbones.images import Pictures

if TYPE_CHECKING:
    from counterlens.core.training.trainer import TrainJob
    from counterlens.plugins.trainers.backbones.plan import BackbonePlan

TEMPLATES = ("a {}", "{}", "an image of {}", "a picture of a {}", "a photo of a {}")
DONE = "backbone.json"


class Scratch:
    """One call of ``train backbone``: the folder, the images, the networks' sizes."""

    def __init__(self, job: TrainJob, plan: BackbonePlan) -> None:
        self.job, self.plan, self.out, self.shape = job, plan, plan.out, plan.shape
        self.about = digest({"data": job.dataset.content(), "seed": job.seed, "options": plan.options()})

    def run(self) -> dict[str, Any]:
        self.check_out()
        self.data = Pictures.read(self.job, self.shape.pixels, self.plan.held, self.plan.flip)
        begun = {"trainer": "backbone", "about": self.about, "data": self.job.dataset.uri}
        write_json(self.out / "progress" / "begun.json", begun)
        records = {part: self.part(part) for part in self.plan.parts}
        kinds = [part for part in self.plan.parts if part in export.UNETS]
        record = {
            "about": self.about,
            "data": self.job.dataset.uri,
            "classes": list(self.data.labels),
            "images": self.data.sizes(),
            "pixels": self.shape.pixels,
            "pipelines": {kind: preview.memorised(self.plan, self.data, kind) for kind in kinds},
            "parts": records,
            "bytes": sum(p.stat().st_size for p in self.out.rglob("*.safetensors")),
        }
        write_json(self.out / DONE, record)
        shutil.rmtree(self.out / "checkpoints", ignore_errors=True)
        return {**record, "parts": {part: preview.short(found) for part, found in records.items()}}

    def check_out(self) -> None:
        """OUT is new, or of an earlier call with the same data, seed and options."""
        mark = self.out / "progress" / "begun.json"
        if not self.out.exists():
            return
        if not mark.is_file():
            raise UsageError(f"{self.out} is there already and holds something else: choose another --out")
        if json.loads(mark.read_text()).get("about") != self.about:
            raise UsageError(
                f"{self.out} was begun with other images, another seed or other options: choose another --out, "
                "or remove it to begin anew"
            )
        self.job.notice(f"{self.out}: going on where it was stopped")

    def part(self, part: str) -> dict[str, Any]:
        """Train one part, unless an earlier call finished it."""
        path = self.out / "records" / f"{part}.json"
        if path.is_file() and (known := json.loads(path.read_text())).get("about") == self.about:
            return known
        recipe, seed = self.plan.recipe(part), self.job.seed
        torch.manual_seed(seed)
        model, loss_of, held_loss = self.build(part, recipe.batch)
        look = preview.Preview(self.plan, self.data, part, held_loss)
        tick: Callable[[str, int, int], None] = self.job.progress
        setup = Setup(
            seed=seed,
            device=self.job.device,
            on_progress=tick,
            about=f"{self.about}|{part}",
            on_look=look,
            looks=self.plan.looks,
        )
        fit = Fit(model, self.out / "checkpoints" / part, recipe.steps, recipe.lr, setup, recipe.decay, recipe.half)
        record = fit.run(loss_of, part) | {"batch": recipe.batch, "about": self.about, "held_out_losses": fit.held}
        self.write(part, model.cpu())
        write_json(path, record)
        return record

    def build(self, part: str, batch: int) -> tuple[nn.Module, losses.Loss, losses.Loss]:
        """The network, its loss, and the same loss of held-out images."""
        shape, train, held = self.shape, self.data.train, self.data.held
        if part == "clip":
            vocab, _ = self.vocabulary
            args = (self.data.labels_of("train"), self.ids, batch, _moved)
            same = (self.data.labels_of("held"), self.ids, batch, _moved)
            return networks.clip(shape, len(vocab)), losses.named_loss(train, *args), losses.named_loss(held, *same)
        if part == "vae":
            return networks.vae(shape), losses.vae_loss(train, batch), losses.vae_loss(held, batch)
        if part == "ddpm":
            return networks.pixel_unet(shape), losses.velocity_loss(train, batch), losses.velocity_loss(held, batch)
        z, conditions = self.latents["train"], self.conditions(part, "train")
        z_held, of_held = self.latents["held"], self.conditions(part, "held")
        loss, on_held = losses.velocity_loss(z, batch, conditions), losses.velocity_loss(z_held, batch, of_held)
        return networks.latent_unet(part, shape), loss, on_held

    @cached_property
    def vocabulary(self) -> tuple[dict[str, int], list[tuple[str, str]]]:
        words = {word for text in (*TEMPLATES, *self.data.labels) for word in text.replace("{}", "").lower().split()}
        return tokenizer.vocabulary(words)

    def write_tokenizer(self, folder: Path) -> None:
        tokenizer.write_tokenizer(folder, *self.vocabulary, self.shape.max_length)

    @cached_property
    def ids(self) -> Tensor:
        """[K,V,L]: what can be said of each class."""
        folder = self.out / "progress" / "tokenizer"
        self.write_tokenizer(folder)
        texts = [template.format(label) for label in self.data.labels for template in TEMPLATES]
        found = tokenizer.token_ids(tokenizer.load_tokenizer(folder), texts)
        return found.view(len(self.data.labels), len(TEMPLATES), -1)

    @cached_property
    def empty(self) -> Tensor:
        """[L]: the empty text."""
        return tokenizer.token_ids(tokenizer.load_tokenizer(self.out / "progress" / "tokenizer"), [""])[0]

    @cached_property
    def latents(self) -> Mapping[str, Tensor]:
        parts = {"train": self.data.train, "held": self.data.held}
        return {name: export.encode_latents(self.out, images, self.job.device) for name, images in parts.items()}

    def conditions(self, kind: str, part: str) -> losses.Conditions:
        images = self.data.train if part == "train" else self.data.held
        if kind == networks.TEXT:
            _, encoder = export.load_text(self.out)
            return losses.text_conditions(encoder, self.ids[self.data.labels_of(part)], self.empty)
        zero = export.embed_images(self.out, torch.zeros_like(images[:1]))
        return losses.embedding_conditions(export.embed_images(self.out, images, self.job.device), zero)

    def write(self, part: str, model: Any) -> None:
        """A trained part where its pipelines look for it."""
        if part == "clip":
            export.write_clip(self.out, model, self.write_tokenizer)
        elif part == "vae":
            export.write_vae(self.out, model, networks.movq(self.shape), self.data.train)
        else:
            export.UNETS[part](self.out, model)


def _moved(x: Tensor) -> Tensor:
    """Images in [-1,1], each a little turned, shifted, zoomed, and of another brightness."""
    light = 1 + 0.2 * (torch.rand(len(x), 1, 1, 1) * 2 - 1)
    return ((jitter(x, 6, 0.06, 0.1) + 1) * light - 1).clamp(-1, 1)
