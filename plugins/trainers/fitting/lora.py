"""The training of a LoRA adapter: seeded step by step, safe to stop, averaged, with a held-out loss."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from counterlens.core.errors import UsageError
from counterlens.core.models.lora import BASE, CONFIG, WEIGHTS
from counterlens.core.utils.digest import digest
from counterlens.core.utils.files import explained, temporary
from counterlens.core.utils.seeds import generator
from counterlens.core.utils.weights import fingerprint
from counterlens.plugins.trainers.fitting.latents import denoising_loss

if TYPE_CHECKING:
    from counterlens.core.training.trainer import TrainJob
    from counterlens.plugins.trainers.fitting.latents import Encoded


TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj")
EVERY_S = 60.0  # seconds between checkpoints
DRAWS = 4  # noises of every held-out image


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """How to train an adapter: the options of ``lora`` of the same names."""

    rank: int
    alpha: int
    steps: int
    batch: int
    lr: float
    dropout: float
    clip: float
    decay: float
    every: int
    held: float
    prompt: str
    checkpoint: bool


class Adaptation:
    """One run. State lies in ``OUT.part`` until the adapter is finished; the base network comes back as it was."""

    def __init__(self, job: TrainJob, options: LoraSettings, data: Encoded) -> None:
        from accelerate import Accelerator

        self.job, self.o, self.data = job, options, data
        self.accelerator = Accelerator(cpu=job.device == "cpu")
        self.pipeline = job.network
        self.unet: Any = self.pipeline.modules["unet"]
        self.base = fingerprint(self.unet)
        self.folder = job.out.with_name(job.out.name + ".part")
        self.step, self.best = 0, float("inf")
        self.losses: list[list[float]] = []
        setting = {name: value for name, value in asdict(options).items() if name not in ("steps", "every")}
        self.about = digest({"base": self.base, "data": job.dataset.content(), "seed": job.seed, "options": setting})

    def run(self) -> dict[str, Any]:
        begun = time.monotonic()
        with self.adapted() as parameters:
            self.parameters = parameters
            self.average = {name: p.detach().clone() for name, p in parameters.items()}
            self.kept = dict(self.average)
            self.optimizer = torch.optim.AdamW(parameters.values(), lr=self.o.lr, weight_decay=0.0)
            resumed = self.resume()
            try:
                self.work()
            except KeyboardInterrupt:
                self.save()
                raise
        record = {
            "images": {name: len(part) for name, part in self.data.rows.items()},
            "parameters": sum(p.numel() for p in parameters.values()),
            "steps": self.step, "resumed_at": resumed, "held_out_losses": self.losses,
            "best_held_out_loss": round(self.best, 5), "seconds": round(time.monotonic() - begun, 1),
        }  # fmt: skip
        if self.accelerator.is_main_process:
            self.finish(record)
        self.accelerator.wait_for_everyone()
        return record

    @contextmanager
    def adapted(self) -> Iterator[dict[str, Tensor]]:
        """The U-Net with its additions, by their PEFT names; afterwards as it was."""
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(self.job.seed)
        self.config = LoraConfig(
            r=self.o.rank, lora_alpha=self.o.alpha, target_modules=self.targets(), init_lora_weights="gaussian"
        )
        model = get_peft_model(self.unet, self.config)
        if self.o.checkpoint:
            self.unet.enable_gradient_checkpointing()
        self.unet.train()
        try:
            yield {name: p for name, p in model.named_parameters() if p.requires_grad}
        finally:
            if self.o.checkpoint:
                self.unet.disable_gradient_checkpointing()
            model.unload()
            self.unet.eval().requires_grad_(False)

    def targets(self) -> list[str]:
        names = [name for name, _ in self.unet.named_modules()]
        found = [target for target in TARGETS if any(name.endswith(f".{target}") for name in names)]
        if not found:
            raise UsageError(f"{self.job.model}: its U-Net has no attention layers to adapt")
        return found

    def work(self) -> None:
        saved = time.monotonic()
        while self.step < self.o.steps:
            self.one_step()
            self.job.progress("lora", self.step, self.o.steps)
            if self.step % self.o.every == 0 or self.step == self.o.steps:
                self.validate()
            if time.monotonic() - saved > EVERY_S:
                self.save()
                saved = time.monotonic()

    def one_step(self) -> None:
        """All randomness comes from the seed, the step and the device: a run that was stopped takes the same steps."""
        rank, count = self.accelerator.process_index, self.accelerator.num_processes
        g = generator((self.job.seed * 10_000_019 + self.step) * count + rank)
        train = torch.tensor(self.data.rows["train"])
        picked = train[torch.randint(len(train), (self.o.batch,), generator=g)]
        loss = self.loss(picked, g, self.o.dropout).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if count > 1:
            for p in self.parameters.values():
                p.grad = self.accelerator.reduce(p.grad, "mean")
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.o.clip)
        self.optimizer.step()
        self.step += 1
        decay = min(self.o.decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, p in self.parameters.items():
                self.average[name].lerp_(p.detach(), 1 - decay)

    def loss(self, picked: Tensor, g: torch.Generator, dropout: float) -> Tensor:
        """[B]: mean squared error of the network's answer about noised images, in its own parametrisation."""
        data = self.data
        cond = data.cond[picked].clone()
        cond[torch.rand(len(picked), generator=g) < dropout] = data.null[0]
        extra = {name: value[picked].to(self.pipeline.device) for name, value in data.extra.items()}
        return denoising_loss(self.pipeline, data.x0[picked], cond, extra, g)

    @torch.no_grad()
    def validate(self) -> None:
        """The averaged weights on held-out images, always under the same noises; the best are kept."""
        own = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.put(self.average)
        self.unet.eval()
        g = generator(self.job.seed)
        held = torch.tensor(self.data.rows["held"]).repeat(DRAWS)
        loss = float(torch.cat([self.loss(part, g, 0.0).cpu() for part in held.split(self.o.batch)]).mean())
        self.unet.train()
        self.losses.append([self.step, round(loss, 5)])
        if loss < self.best:
            self.best, self.kept = loss, {name: value.clone() for name, value in self.average.items()}
        self.put(own)

    @torch.no_grad()
    def put(self, values: dict[str, Tensor]) -> None:
        for name, p in self.parameters.items():
            p.copy_(values[name])

    def save(self) -> None:
        """A checkpoint; whole or not at all."""
        if not self.accelerator.is_main_process:
            return
        from counterlens.core.utils.weights import write_weights

        tensors: dict[str, Tensor] = {}
        for name, p in self.parameters.items():
            state = self.optimizer.state[p]
            moments = {"first": state["exp_avg"], "second": state["exp_avg_sq"]} if state else {}
            parts = {"own": p, "average": self.average[name], "kept": self.kept[name], **moments}
            tensors |= {f"{part}|{name}": v for part, v in parts.items()}
        about = {"about": self.about, "step": str(self.step), "best": str(self.best), "losses": self.losses}
        write_weights(self.folder / "checkpoint.safetensors", tensors, **about)

    def resume(self) -> int:
        """Go on where an earlier run of the same base, data, seed and options was; returns its step."""
        path = self.folder / "checkpoint.safetensors"
        if not path.is_file():
            return 0
        from counterlens.core.utils.weights import read_weights

        tensors, about = read_weights(path)
        if about.get("about") != self.about:
            self.job.notice(f"{self.folder} is of another base, data, seed or options: begun afresh")
            return 0
        self.step, self.best, self.losses = int(about["step"]), float(about["best"]), json.loads(about["losses"])
        self.put({name: tensors[f"own|{name}"] for name in self.parameters})
        for name, p in self.parameters.items():
            self.average[name] = tensors[f"average|{name}"].to(p.device)
            self.kept[name] = tensors[f"kept|{name}"].to(p.device)
            moments = {
                "exp_avg": tensors[f"first|{name}"].to(p.device),
                "exp_avg_sq": tensors[f"second|{name}"].to(p.device),
            }
            self.optimizer.state[p] = {"step": torch.tensor(float(self.step)), **moments}
        return self.step

    def finish(self, record: dict[str, Any]) -> None:
        """The adapter's folder in PEFT's layout, and what it was trained on."""
        from peft.utils import PeftType

        from counterlens.core.utils.weights import write_weights

        part = temporary(self.job.out)
        with explained(self.job.out):
            part.mkdir(parents=True)
            # PEFT's files leave the adapter's name out of the keys
            tensors = {name.replace(".default.", "."): value for name, value in self.kept.items()}
            write_weights(part / WEIGHTS, tensors, format="pt")
            config = self.config.to_dict() | {
                "peft_type": PeftType.LORA.value,
                "base_model_name_or_path": self.job.model,
            }
            plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
            (part / CONFIG).write_text(json.dumps(plain, indent=1, default=str))
            about = {"base": self.base, "model": self.job.model, "data": self.job.dataset.uri, **record}
            (part / BASE).write_text(json.dumps(about, indent=1) + "\n")
            part.rename(self.job.out)
        for path in Path(self.folder).glob("*"):
            path.unlink()
        if self.folder.is_dir():
            self.folder.rmdir()
