"""Inversions shared by methods, targets and runs: kept on disk under everything that they depend on, bit by bit.

The key holds the digests of the latent and of the conditions themselves, not of what they were made from, so an
inversion that is found is the one that would have been made. What making it cost is kept with it: a method is
charged as if it had worked alone, and what it was spared is counted beside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from counterlens.core.diffusion.inversion import Inversion
from counterlens.core.problem.scene import Scene
from counterlens.core.utils.digest import digest, image_digest
from counterlens.core.utils.tensor_cache import Cache

VERSION = 2
COSTS = ("forward", "gradient", "seconds")


class Inverts(Protocol):
    """What is asked of an inverter: a start of a trajectory that reproduces an image."""

    name: ClassVar[str]
    nested: ClassVar[bool]  # whether a later start is part of an earlier one

    @property
    def skip(self) -> float: ...  # share of the trajectory left out, from its noisy end

    def start(self, n: int, skip: float | None = None) -> int: ...

    def invert(self, problem: Any, skip: float | None = None) -> Inversion: ...

    @property
    def model_dump(self) -> Callable[..., dict[str, Any]]: ...


@dataclass(frozen=True)
class Inversions:
    """A cache of inversions for one pipeline; ``about`` says which one (weights, dtype, device, versions)."""

    cache: Cache
    about: Mapping[str, Any] = field(default_factory=dict)
    together: bool = False  # whether images are inverted in one batch; last bits may then depend on their neighbours

    def key(self, scene: Scene, inverter: Inverts, combiner: Any, skip: float | None, batch: int) -> str:
        """The key for a scene of one row. ``batch`` is in it since the size of a network call decides last bits."""
        options = {**inverter.model_dump(exclude={"skip"}), "start": inverter.start(len(scene.grid) - 1, skip)}
        return digest(
            {
                "version": VERSION,
                "about": self.about,
                "inverter": [type(inverter).__module__, inverter.name, options],
                "combiner": [combiner.name, combiner.model_dump()],
                "grid": [[float(level.t), float(level.a), float(level.s)] for level in scene.grid],
                "x0": _bits(scene.x0),
                "cond": {name: _bits(value) for name, value in scene.cond.items()},
                "extra": {b: {n: _bits(v) for n, v in parts.items()} for b, parts in scene.extra.items()},
                "seed": scene.seeds[0],
                "batch": batch,
                **({"together": True} if self.together else {}),
            }
        )

    def get(self, key: str, scene: Scene) -> tuple[Inversion, dict[str, float]] | None:
        """The inversion on the scene's device and what it had cost, or None."""
        tensors = self.cache.get(key)
        return None if tensors is None else unpack(tensors, scene)

    def put(self, key: str, inversion: Inversion, scene: Scene, costs: Mapping[str, float]) -> None:
        """Keep an inversion of one row, if it is of a kind that can be kept."""
        if (tensors := pack(inversion, scene)) is not None:
            spent = torch.tensor([float(costs.get(name, 0)) for name in COSTS], dtype=torch.float64)
            self.cache.put(key, {**tensors, "costs": spent})


def pack(inversion: Inversion, scene: Scene) -> dict[str, Tensor] | None:
    """Every field as one tensor; None when a field has no such form, or the grid is not an end of the scene's."""
    start = len(scene.grid) - len(inversion.grid)
    if start < 0 or scene.grid[start:] != inversion.grid:
        return None
    out = {"start": torch.tensor(start)}
    for one in fields(inversion):
        value = getattr(inversion, one.name)
        if one.name == "grid" or value is None:
            continue
        if isinstance(value, Tensor):
            out[one.name] = value
        elif isinstance(value, tuple) and value and all(isinstance(part, Tensor) for part in value):
            out[f"{one.name}[]"] = torch.stack(value)
        elif isinstance(value, tuple) and all(isinstance(part, float) for part in value):
            out[f"{one.name}()"] = torch.tensor(value, dtype=torch.float64)
        else:
            return None
    return out


def unpack(tensors: Mapping[str, Tensor], scene: Scene) -> tuple[Inversion, dict[str, float]] | None:
    """The inverse of ``pack``, with the costs; None for a file of another form."""
    rest, device = dict(tensors), scene.x0.device
    try:
        start, costs = int(rest.pop("start")), rest.pop("costs")
        values: dict[str, Any] = {"grid": scene.grid[start:]}
        for name, tensor in rest.items():
            if name.endswith("[]"):
                values[name[:-2]] = tuple(tensor.to(device))
            elif name.endswith("()"):
                values[name[:-2]] = tuple(tensor.tolist())
            else:
                values[name] = tensor.to(device)
        return Inversion(**values), dict(zip(COSTS, costs.tolist(), strict=True))
    except (KeyError, TypeError, ValueError):
        return None


def _bits(tensor: Tensor) -> str:
    return image_digest(tensor.detach().cpu().float().contiguous().numpy())
