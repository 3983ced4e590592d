"""Pieces and plugins in plain words, for ``pieces show``, and the reference pages. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from counterlens.core.metrics.metric import Metric
from counterlens.core.pieces.options import option
from counterlens.core.plugin.registry import KINDS

if TYPE_CHECKING:
    from counterlens.core.pieces.base import Piece
    from counterlens.core.plugin.registry import Registry


def pieces(registry: Registry, kinds: tuple[str, ...] = tuple(KINDS)) -> Iterator[dict[str, Any]]:
    """Every piece of these kinds as a plain dictionary, by kind and name."""
    for kind in kinds:
        for name, cls in sorted(registry.entries[kind].items()):
            yield piece(cls, registry.origins[kind, name])


def piece(cls: type[Piece], origin: str) -> dict[str, Any]:
    """What a piece is, needs, gives, and its options with type, default, range and help."""
    return {
        "kind": cls.kind,
        "name": cls.name,
        "summary": cls.summary(),
        "origin": origin,
        "needs": sorted(cls.needs),
        "gives": sorted(cls.gives),
        **({"strength_unit": cls.strength_unit} if cls.strength_unit else {}),
        **(measure(cls) if issubclass(cls, Metric) else {}),
        "options": [option(name, info) for name, info in cls.model_fields.items()],
    }


def measure(cls: type[Metric]) -> dict[str, Any]:
    """How the number of a metric is to be read: scope, direction, range, unit, cost, population, source."""
    low, high = ("…" if bound is None else f"{bound:g}" for bound in cls.bounds)
    return {
        "scope": cls.scope,
        "direction": {True: "higher is better", False: "lower is better", None: "neither"}[cls.higher_is_better],
        "bounds": f"{low} to {high}",
        "unit": cls.unit,
        "cost": cls.cost,
        "population": cls.population,
        "source": cls.source,
    }
