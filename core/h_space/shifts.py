"""Shifts: directions in the activations of a U-Net (h-space), and the files that hold banks of them.

A shift says what is added to the activation at one site in every step of a trajectory (Kwon et al. 2023; Haas et al.
2024). It belongs to one network, site, scheduler and number of steps, and is refused elsewhere. Directions between
embeddings are another thing (``core/conditioning/directions.py``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from counterlens.core.diffusion.levels import Level
from counterlens.core.diffusion.schedulers import first_order
from counterlens.core.errors import UsageError, unknown

if TYPE_CHECKING:
    from counterlens.core.models.pipeline import Pipeline

FORMAT = "counterlens-directions-1"


@dataclass(frozen=True)
class ShiftSpace:
    """What a shift belongs to. ``model`` is the fingerprint of the U-Net, ``timesteps`` [T] where it was asked, noisy
    to clean, ``kind`` what the network predicts."""

    model: str
    uri: str
    family: str
    site: str
    scheduler: str
    kind: str
    timesteps: tuple[float, ...]

    @classmethod
    def of(cls, pipeline: Pipeline, site: str, grid: Sequence[Level]) -> ShiftSpace:
        """The space of a site of this pipeline on a trajectory's ``grid``; UsageError where there is no such site."""
        from counterlens.core.diffusion.sites import activation_sites, check_site
        from counterlens.core.utils.weights import fingerprint

        check_site(site, activation_sites(pipeline.unet), pipeline.uri)
        return cls(
            fingerprint(pipeline.unet),
            pipeline.uri,
            pipeline.family,
            site,
            type(first_order(pipeline.scheduler)).__name__,
            pipeline.dynamics.kind,
            tuple(float(level.t) for level in grid[:-1]),
        )


@dataclass(frozen=True, eq=False)
class Shift:
    """One direction: ``delta`` [T,C,h',w'] fp32 is what strength 1 adds, step by step, noisy to clean.

    ``kind``: the finder that made it. ``about``: its statistics, as JSON can hold them (a list has a number a step).
    """

    name: str
    delta: Tensor
    kind: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)

    def norms(self) -> Tensor:
        """[T]: its length in every step."""
        return self.delta.flatten(1).norm(dim=1)

    def with_(self, **changes: Any) -> Shift:
        return replace(self, **changes)


@dataclass(frozen=True, eq=False)
class ShiftBank:
    """Shifts of one space. ``norms`` [T] is the mean length of the activation itself (0 where it was not measured).

    ``provenance`` says how they were found; ``extra`` holds further tensors of a finder's (scores, sketches).
    """

    space: ShiftSpace
    shifts: tuple[Shift, ...]
    norms: Tensor
    provenance: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(shift.name for shift in self.shifts)

    @property
    def shape(self) -> tuple[int, ...]:
        """[T,C,h',w'] of every shift."""
        return tuple(self.shifts[0].delta.shape)

    def get(self, name: str) -> Shift:
        """The shift of that name, or of a number counted from 0; UsageError with those that there are."""
        if name in self.names:
            return self.shifts[self.names.index(name)]
        if name.isdigit() and int(name) < len(self.shifts):
            return self.shifts[int(name)]
        raise unknown("direction", name, self.names)

    def only(self, names: Sequence[str]) -> ShiftBank:
        return replace(self, shifts=tuple(self.get(name) for name in names))

    def with_(self, **changes: Any) -> ShiftBank:
        return replace(self, **changes)

    def save(self, path: str | Path) -> None:
        """One safetensors file, whole or not at all; everything that is not a tensor is its metadata."""
        from counterlens.core.utils.weights import write_weights

        if not self.shifts:
            raise UsageError("no direction was found: nothing to write")
        if len(set(self.names)) < len(self.names):
            raise UsageError(f"two directions of the same name among {', '.join(self.names)}: rename one")
        tensors = {f"delta{k}": shift.delta for k, shift in enumerate(self.shifts)}
        tensors |= {"norms": self.norms, **{f"extra.{name}": value for name, value in self.extra.items()}}
        shifts = [{"name": s.name, "kind": s.kind, "about": s.about} for s in self.shifts]
        about = {"space": asdict(self.space), "shifts": shifts, "provenance": self.provenance}
        write_weights(path, tensors, format=FORMAT, **about)

    def check(self, pipeline: Pipeline, grid: Sequence[Level], site: str = "", resample: bool = False) -> ShiftBank:
        """The bank, fit for trajectories on ``grid``; UsageError when it is of another network, site or step count.

        ``resample`` interpolates over timesteps instead of refusing other steps.
        """
        from counterlens.core.utils.weights import fingerprint

        uri = pipeline.uri or pipeline.family
        if self.space.model != fingerprint(pipeline.unet):
            raise UsageError(
                f"directions of another U-Net ({self.space.uri or self.space.family}, or the same one in another "
                f"--dtype or with other adapters) than that of {uri}: find them again with counterlens directions find"
            )
        if site and site != self.space.site:
            raise UsageError(f"directions at the site {self.space.site!r}, not {site!r}: find them there")
        steps = tuple(float(level.t) for level in grid[:-1])
        if _same(steps, self.space.timesteps):
            return self
        if not resample:
            raise UsageError(
                f"directions for {len(self.space.timesteps)} steps (timesteps {_ends(self.space.timesteps)}), the "
                f"trajectory has {len(steps)} ({_ends(steps)}): give --steps {len(self.space.timesteps)}, or "
                "--resample (resample=true of a piece) to interpolate over timesteps"
            )
        return self.resampled(steps)

    def resampled(self, timesteps: Sequence[float]) -> ShiftBank:
        """The same shifts at other timesteps, linear in t between the known ones, the nearest one beyond them."""
        at = _weights(self.space.timesteps, timesteps)
        shifts = tuple(s.with_(delta=torch.einsum("nt,tchw->nchw", at, s.delta.float())) for s in self.shifts)
        space = replace(self.space, timesteps=tuple(timesteps))
        provenance = {**self.provenance, "resampled_from": list(self.space.timesteps)}
        return replace(self, space=space, shifts=shifts, norms=at @ self.norms.float(), provenance=provenance, extra={})


def load_shifts(path: str | Path) -> ShiftBank:
    """The bank of a file; UsageError when it is something else. Nothing but tensors and JSON is ever read."""
    from counterlens.core.utils.weights import read_weights

    tensors, about = read_weights(path)
    if about.get("format") != FORMAT:
        raise UsageError(f"{path} holds no directions: make them with counterlens directions find")
    space = json.loads(about["space"])
    rows = json.loads(about["shifts"])
    shifts = tuple(Shift(r["name"], tensors[f"delta{k}"], r["kind"], r["about"]) for k, r in enumerate(rows))
    extra = {name.removeprefix("extra."): value for name, value in tensors.items() if name.startswith("extra.")}
    space = ShiftSpace(**{**space, "timesteps": tuple(space["timesteps"])})
    return ShiftBank(
        space=space, shifts=shifts, norms=tensors["norms"], provenance=json.loads(about["provenance"]), extra=extra
    )


def joined(banks: Sequence[ShiftBank]) -> ShiftBank:
    """Banks of one space as one; UsageError when they are of several, or share a name."""
    first = banks[0]
    for other in banks[1:]:
        if replace(other.space, uri=first.space.uri) != first.space:
            raise UsageError("directions of different networks, sites or steps cannot be used together")
    shifts = tuple(shift for bank in banks for shift in bank.shifts)
    names = [shift.name for shift in shifts]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"two directions are called {twice!r}: rename one with counterlens directions name")
    return replace(first, shifts=shifts)


def _same(a: Sequence[float], b: Sequence[float]) -> bool:
    return len(a) == len(b) and all(abs(x - y) < 1e-3 for x, y in zip(a, b, strict=True))


def _ends(steps: Sequence[float]) -> str:
    return f"{steps[0]:g} … {steps[-1]:g}"


def _weights(old: Sequence[float], new: Sequence[float]) -> Tensor:
    """[N,T]: rows of linear interpolation from the timesteps ``old`` to ``new``."""
    known = torch.tensor(old, dtype=torch.float64)
    order = known.argsort()
    known, out = known[order], torch.zeros(len(new), len(old))
    for row, t in enumerate(new):
        right = int(torch.searchsorted(known, torch.tensor(float(t), dtype=torch.float64)).clamp(0, len(old) - 1))
        left = max(0, right - 1) if known[right] > t else right
        gap = float(known[right] - known[left])
        share = min(1.0, max(0.0, (float(t) - float(known[left])) / gap)) if gap else 1.0
        out[row, order[left]] += 1 - share
        out[row, order[right]] += share
    return out
