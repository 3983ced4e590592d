"""How PCA gets its samples: batch by batch through the job, onto disk or into sketches, and on from where it was."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from counterlens.core.h_space.activation_store import Shards, Steps
from counterlens.core.linalg.pca import Sketch
from counterlens.core.utils.batched import batched
from counterlens.core.utils.digest import digest
from counterlens.core.utils.files import cache_folder

if TYPE_CHECKING:
    from counterlens.core.h_space.job import FindJob

VERSION = 1
PROBES = 256  # samples of a sketch whose activations are kept whole, for the scores
SAVE_EVERY = 60.0  # seconds between two states of a sketch on disk


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """The options of ``pca`` of the same names."""

    components: int
    form: str
    width: int
    folder: str
    half: bool

    @property
    def vectors(self) -> int:
        """How many a sketch holds."""
        return self.components + self.width


@dataclass(frozen=True)
class Reading:
    """The samples of a job, as one finder wants them."""

    options: SampleOptions
    job: FindJob
    count: int

    @property
    def folder(self) -> Path:
        """Where this set of samples is kept: the user's folder or the cache, then the digest of what they are."""
        root = Path(self.options.folder).expanduser() if self.options.folder else cache_folder() / "activations"
        return root / self._digest()[:32]

    def _digest(self) -> str:
        quest = self.job.quest
        names = ("source", "data", "domain", "inverter", "combiner", "eta", "prompt", "seed", "batch", "dtype", "prior")
        own = {name: getattr(quest, name) for name in names}
        real = self.job.examples if quest.source == "images" else None
        return digest(
            {
                "version": VERSION,
                "space": asdict(self.job.space()),
                "quest": own,
                "half": self.options.half,
                "images": None if real is None else real.content(),
            }
        )

    @property
    def batches(self) -> list[tuple[int, ...]]:
        return list(batched(range(self.count), self.job.quest.batch))

    def clear(self) -> None:
        """Remove what was kept only until the directions are found."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def steps(self) -> Steps:
        """All activations, on disk: those of an earlier run are taken, the rest is made."""
        shards = Shards(self.folder, torch.float16 if self.options.half else torch.float32)
        parts = self.batches
        done = next((k for k, part in enumerate(parts) if not shards.has(part)), len(parts))
        self._going_on(done * self.job.quest.batch)
        if done < len(parts):
            for batch in self.job.recorded(start=done * self.job.quest.batch):
                shards.put(batch.numbers, batch.h[self.job.quest.site])
        return Steps.of(shards, parts, len(self.job.grid) - 1)

    def sketches(self) -> tuple[list[Sketch], list[Tensor], Tensor, tuple[int, ...]]:
        """A sketch a timestep (one of all, for form=global), the first samples' activations, mean lengths, shape."""
        state = self._state()
        done, probes, norms, sketches = 0, [], None, []
        shape: tuple[int, ...] = ()
        if state:
            done, norms = int(state.pop("done")), state.pop("norms")
            probes, shape = [state.pop("probes")], tuple(state.pop("shape").tolist())
            sketches = self._sketches(probes[0], state)
        self._going_on(done)
        saved = time.monotonic()
        for batch in self.job.recorded(start=done) if done < self.count else ():
            h, shape = batch.h[self.job.quest.site], tuple(batch.h[self.job.quest.site].shape[2:])
            h = h.detach().cpu().flatten(2).float()  # [T,B,d]
            sketches = sketches or self._sketches(h.transpose(0, 1), {})
            for sketch, part in zip(sketches, self._parts(h.transpose(0, 1)), strict=True):
                sketch.add(part)
            norms = h.norm(dim=2).double().sum(1) + (0 if norms is None else norms)
            if sum(len(part) for part in probes) < PROBES:
                probes.append(h.transpose(0, 1).contiguous())
            done += len(batch.numbers)
            if time.monotonic() - saved >= SAVE_EVERY:
                self._save(sketches, done, torch.cat(probes), norms, shape)
                saved = time.monotonic()
        assert norms is not None
        if self.options.folder:
            self._save(sketches, done, torch.cat(probes), norms, shape)
        return sketches, self._parts(torch.cat(probes)), (norms / done).float(), shape

    def _sketches(self, h: Tensor, state: dict[str, Tensor]) -> list[Sketch]:
        """Sketches for activations h [·,T,d]."""
        own = [{n.partition(".")[2]: v for n, v in state.items() if n.startswith(f"{t}.")} for t in range(h.shape[1])]
        return [Sketch(part.shape[1], self.options.vectors, t, own[t] or None) for t, part in enumerate(self._parts(h))]

    def _parts(self, h: Tensor) -> list[Tensor]:
        """What is analysed on its own of h [N,T,d]: every timestep, or all of them as one long vector."""
        return [h.flatten(1)] if self.options.form == "global" else list(h.unbind(1))

    @property
    def _state_path(self) -> Path:
        return self.folder / f"sketch-{self.options.form}-{self.options.vectors}.safetensors"

    def _state(self) -> dict[str, Tensor]:
        from counterlens.core.errors import UsageError
        from counterlens.core.utils.weights import read_weights

        if not self._state_path.is_file():
            return {}
        try:
            state = read_weights(self._state_path)[0]
        except UsageError:
            return {}
        return state if int(state["done"]) <= self.count else {}

    def _save(self, sketches: Sequence[Sketch], done: int, probes: Tensor, norms: Tensor, shape: Sequence[int]) -> None:
        from counterlens.core.utils.weights import write_weights

        tensors = {f"{t}.{name}": v for t, s in enumerate(sketches) for name, v in s.state.items()}
        tensors |= {
            "done": torch.tensor(done),
            "probes": probes,
            "norms": norms,
            "shape": torch.tensor(shape),
        }
        write_weights(self._state_path, tensors)

    def _going_on(self, done: int) -> None:
        if done:
            self.job.notice(f"{min(done, self.count)} of {self.count} samples are there already, in {self.folder}")
