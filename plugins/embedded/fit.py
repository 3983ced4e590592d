"""The training loop of every part: counted in steps, seeded step by step, safe to kill at any moment.

All randomness of step ``k`` comes from a seed made of (seed, k), so a run that was killed and resumed takes exactly the
same steps as one that was not.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

EVERY_S = 60.0  # seconds between checkpoints


def learning_rate(step: int, steps: int, peak: float) -> float:
    """100 steps up, then linearly down to a fiftieth."""
    return peak * min(1.0, (step + 1) / min(100, steps)) * max(0.02, 1 - step / steps)


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Write under a temporary name, then rename: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    write(partial)
    os.replace(partial, path)


def machine() -> str:
    """What the training ran on, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} CPU cores"


class Fit:
    """One training run of a module; state lives in ``folder/checkpoint.pt`` (tensors and numbers only)."""

    def __init__(
        self, model: nn.Module, folder: Path, steps: int, lr: float, seed: int = 0, decay: float = 0.999
    ) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = model.to(self.device)
        self.folder, self.steps, self.lr, self.seed, self.decay = folder, steps, lr, seed, decay
        self.params = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.params, lr=lr, weight_decay=1e-4, betas=(0.9, 0.99))
        self.average = [p.detach().clone() for p in self.params]
        self.step, self.seconds, self.loss = 0, 0.0, float("nan")
        self.losses: list[list[float]] = []

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.pt"

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "numbers": [self.step, self.seconds, self.loss],
            "losses": self.losses,
        }
        write_atomic(self.path, lambda p: torch.save(state, p))

    def resume(self) -> bool:
        if not self.path.exists():
            return False
        state = torch.load(self.path, weights_only=True, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = state["average"]
        self.step, self.seconds, self.loss = int(state["numbers"][0]), *state["numbers"][1:]
        self.losses = state["losses"]
        return True

    def one_step(self, loss_of: Callable[[nn.Module], Tensor]) -> float:
        torch.manual_seed(self.seed * 10_000_019 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.steps, self.lr)
        with torch.autocast(self.device, torch.bfloat16):
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
        saved = time.monotonic()
        while self.step < self.steps:
            start = time.monotonic()
            loss = self.one_step(loss_of)
            self.loss = loss if self.loss != self.loss else 0.98 * self.loss + 0.02 * loss
            self.seconds += time.monotonic() - start
            if self.step % 50 == 0 or self.step == self.steps:
                self.losses.append([float(self.step), self.loss])
                left = self.seconds / self.step * (self.steps - self.step)
                print(
                    f"{name} {self.step}/{self.steps} loss {self.loss:.4f} {self.seconds:.0f} s, {left:.0f} s left",
                    file=sys.stderr,
                    flush=True,
                )
            if time.monotonic() - saved > EVERY_S or self.step == self.steps:
                self.save()
                saved = time.monotonic()
        with torch.no_grad():
            for param, mean in zip(self.params, self.average, strict=True):
                param.copy_(mean)
        self.model.eval().requires_grad_(False)
        return self.record(name)

    def record(self, name: str) -> dict[str, object]:
        return {
            "part": name,
            "steps": self.steps,
            "seed": self.seed,
            "learning_rate": self.lr,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "seconds": round(self.seconds, 1),
            "machine": machine(),
            "torch": torch.__version__.split("+")[0],
            "losses": [[int(s), round(v, 5)] for s, v in self.losses[:: max(1, len(self.losses) // 20)]],
            "final_loss": round(self.loss, 5),
        }


def write_json(path: Path, content: object) -> None:
    write_atomic(path, lambda p: p.write_text(json.dumps(content, indent=1) + "\n"))
