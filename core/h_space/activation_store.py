"""Activations of many samples on disk, a file a batch, so that a run that is killed goes on where it was.

A folder belongs to one set of samples (network, site, seed, steps, …: its name is their digest), not to their number:
more samples add files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from counterlens.core.errors import UsageError
from counterlens.core.utils.files import explained, sweep


@dataclass(frozen=True)
class Shards:
    """Batches of ``h`` [n,T,d] with ``norms`` [n,T], the lengths of the activations, and their ``shape`` (c,h',w')."""

    folder: Path
    dtype: torch.dtype = torch.float32

    def path(self, numbers: Sequence[int]) -> Path:
        return self.folder / f"{numbers[0]:07d}-{len(numbers)}.safetensors"

    def has(self, numbers: Sequence[int]) -> bool:
        """Whether this batch is there and whole."""
        from counterlens.core.utils.weights import read_weights

        if not self.path(numbers).is_file():
            return False
        try:
            return len(read_weights(self.path(numbers))[0]["h"]) == len(numbers)
        except (UsageError, KeyError):
            return False

    def put(self, numbers: Sequence[int], h: Tensor) -> None:
        """Keep the activations [T,B,c,h',w'] of these samples."""
        from counterlens.core.utils.weights import write_weights

        rows = h.detach().cpu().flatten(2).transpose(0, 1)
        shape = torch.tensor(h.shape[2:])
        tensors = {"h": rows.to(self.dtype), "norms": rows.float().norm(dim=2), "shape": shape}
        with explained(self.path(numbers)):
            self.folder.mkdir(parents=True, exist_ok=True)
            sweep(self.folder)
        write_weights(self.path(numbers), tensors)


@dataclass(frozen=True)
class Steps(Sequence[Tensor]):
    """The activations of all samples timestep by timestep: ``steps[t]`` is [N,d], read from the files on demand."""

    paths: tuple[Path, ...]
    length: int

    @classmethod
    def of(cls, shards: Shards, batches: Iterable[Sequence[int]], length: int) -> Steps:
        return cls(tuple(shards.path(numbers) for numbers in batches), length)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, t: int) -> Tensor:  # type: ignore[override]
        from safetensors import safe_open

        if not 0 <= t < self.length:
            raise IndexError(t)
        parts = []
        for path in self.paths:
            with safe_open(path, framework="pt") as file:
                parts.append(file.get_slice("h")[:, t])
        return torch.cat(parts).float()

    def norms(self) -> Tensor:
        """[T]: the mean length of the activation in every step."""
        return torch.cat([self._tensor(path, "norms") for path in self.paths]).double().mean(0).float()

    def shape(self) -> tuple[int, ...]:
        """(c,h',w') of an activation."""
        return tuple(self._tensor(self.paths[0], "shape").tolist())

    def _tensor(self, path: Path, name: str) -> Tensor:
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name)
