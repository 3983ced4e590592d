"""The training loop of every part: counted in steps, seeded step by step, safe to kill at any moment.

All randomness of step ``k`` comes from a seed made of (seed, k), so a run that was killed and resumed takes exactly the
same steps as one that was not.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from counterlens.core.utils import files

EVERY_S = 60.0  # seconds between checkpoints


def learning_rate(step: int, steps: int, peak: float) -> float:
    """100 steps up, then linearly down to a fiftieth."""
    return peak * min(1.0, (step + 1) / min(100, steps)) * max(0.02, 1 - step / steps)


def write_bytes(path: Path, data: bytes) -> None:
    """Whole or not at all; a full disk or a folder that is not ours is an error that says so."""
    with files.explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(path, data)


def machine(device: str) -> str:
    """What the training ran on, in words."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' * (threads > 1)} of {os.cpu_count()} CPU cores"


def to_stderr(what: str, done: int, total: int, note: str = "") -> None:
    if done % 50 == 0 or done == total:
        print(f"{what} {done}/{total}{note}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Setup:
    """How to train: the seed, the device, and who is told ``(what, done, total)`` after every step.

    ``about`` is a digest of what the run depends on: a checkpoint of another one is not gone on with. ``on_look`` gets
    the run ``looks`` times and at its end, with the averaged weights in its model.
    """

    seed: int = 0
    device: str = "cpu"
    on_progress: Callable[[str, int, int], None] | None = None
    about: str = ""
    on_look: Callable[[Fit], None] | None = None
    looks: int = 8


DEFAULT = Setup()


class Fit:
    """One training run of a module; state lives in ``folder/checkpoint.pt`` (tensors and numbers only)."""

    def __init__(
        self,
        model: nn.Module,
        folder: Path,
        steps: int,
        lr: float,
        setup: Setup = DEFAULT,
        decay: float = 0.999,
        half: bool = True,
    ) -> None:
        self.half = half
        self.setup, self.model = setup, model.to(setup.device)
        self.folder, self.steps, self.lr, self.decay = folder, steps, lr, decay
        self.params = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.params, lr=lr, weight_decay=1e-4, betas=(0.9, 0.99))
        self.average = [p.detach().clone() for p in self.params]
        self.step, self.seconds, self.loss = 0, 0.0, float("nan")
        self.losses: list[list[float]] = []
        self.held: list[list[float]] = []  # (step, loss) on held-out images, by who looks

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.pt"

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "numbers": [self.step, self.seconds, self.loss, self.setup.seed],
            "losses": self.losses,
            "held": self.held,
            "about": self.setup.about,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_bytes(self.path, buffer.getvalue())

    def resume(self) -> bool:
        """Go on where an earlier run of the same seed was; the run of another seed is begun afresh."""
        if not self.path.exists():
            return False
        state = torch.load(self.path, weights_only=True, map_location=self.setup.device)
        step, seconds, loss, *seed = state["numbers"]
        if (seed and seed[0] != self.setup.seed) or state.get("about", "") != self.setup.about:
            return False
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = state["average"]
        self.step, self.seconds, self.loss = int(step), seconds, loss
        self.losses, self.held = state["losses"], state.get("held", [])
        return True

    def one_step(self, loss_of: Callable[[nn.Module], Tensor]) -> float:
        torch.manual_seed(self.setup.seed * 10_000_019 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.steps, self.lr)
        with torch.autocast(self.setup.device.partition(":")[0], torch.bfloat16, enabled=self.half):
            loss = loss_of(self.model)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.params, 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.params], 1 - decay)
        return float(loss.detach())

    def run(self, loss_of: Callable[[nn.Module], Tensor], name: str) -> dict[str, object]:
        """Train to the last step and leave the averaged weights in the model; returns the training record."""
        self.resume()
        self.model.train()
        try:
            self.work(loss_of, name)
        except KeyboardInterrupt:
            self.save()  # whoever stops it by hand loses no step
            raise
        self.put(self.average)
        self.model.eval().requires_grad_(False)
        return self.record(name)

    @torch.no_grad()
    def put(self, values: list[Tensor]) -> None:
        for param, value in zip(self.params, values, strict=True):
            param.copy_(value)

    def look(self) -> None:
        """Show the averaged weights to whoever wants to see them; training goes on as if nobody had."""
        own = [p.detach().clone() for p in self.params]
        self.put(self.average)
        self.model.eval()
        with torch.no_grad():
            self.setup.on_look(self)  # type: ignore[misc]
        self.model.train()
        self.put(own)

    def work(self, loss_of: Callable[[nn.Module], Tensor], name: str) -> None:
        """Step by step to the last one, with a checkpoint every EVERY_S seconds."""
        saved = time.monotonic()
        while self.step < self.steps:
            start = time.monotonic()
            loss = self.one_step(loss_of)
            self.loss = loss if self.loss != self.loss else 0.98 * self.loss + 0.02 * loss
            self.seconds += time.monotonic() - start
            self.tell(name)
            if self.setup.on_look and (self.step % max(1, self.steps // self.setup.looks) == 0):
                self.look()
            if time.monotonic() - saved > EVERY_S or self.step == self.steps:
                self.save()
                saved = time.monotonic()

    def tell(self, name: str) -> None:
        if self.step % 50 == 0 or self.step == self.steps:
            self.losses.append([float(self.step), self.loss])
        if self.setup.on_progress:
            return self.setup.on_progress(name, self.step, self.steps)
        left = self.seconds / self.step * (self.steps - self.step)
        to_stderr(name, self.step, self.steps, f" loss {self.loss:.4f} {self.seconds:.0f} s, {left:.0f} s left")

    def record(self, name: str) -> dict[str, object]:
        return {
            "part": name,
            "steps": self.steps,
            "seed": self.setup.seed,
            "learning_rate": self.lr,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "seconds": round(self.seconds, 1),
            "machine": machine(self.setup.device),
            "torch": torch.__version__.split("+")[0],
            "losses": [[int(s), round(v, 5)] for s, v in self.losses[:: max(1, len(self.losses) // 20)]],
            "final_loss": round(self.loss, 5),
        }


def write_json(path: Path, content: object) -> None:
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())
