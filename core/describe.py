"""Pieces and plugins in plain words, for ``pieces show``, and the reference pages. No torch."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from counterlens.core.pieces import KINDS, Metric

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from counterlens.core.pieces import Piece
    from counterlens.core.registry import Registry

SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "multiple_of": "multiple of", "pattern": "like"}


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


def option(name: str, info: FieldInfo) -> dict[str, Any]:
    """One option: ``default`` as it is written on the command line, None where a value has to be given."""
    return {
        "name": name,
        "type": type_name(info.annotation),
        "default": None if info.is_required() else written(info.get_default(call_default_factory=True)),
        "required": info.is_required(),
        "range": allowed(info),
        "help": info.description or "",
    }


def type_name(annotation: Any) -> str:
    """An annotation as a reader knows it: ``float``, ``float,…``, ``crop|pad``.

    >>> type_name(tuple[float, ...])
    'float,…'
    """
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return "|".join(str(value) for value in args)
    if origin in (typing.Union, types.UnionType):
        return "|".join("none" if part is type(None) else type_name(part) for part in args)
    if origin is tuple:
        return f"{type_name(args[0])},…" if len(args) == 2 and args[1] is ... else ",".join(map(type_name, args))
    if origin is typing.Annotated:
        return type_name(args[0])
    return getattr(annotation, "__name__", str(annotation))


def written(value: Any) -> str:
    """A value in the mini-language: commas between the parts of a tuple."""
    if isinstance(value, (tuple, list)):
        return ",".join(written(part) for part in value)
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def allowed(info: FieldInfo) -> str:
    """The range of a field: ``≥ 0, < 1``, or an empty string."""
    found = []
    for rule in info.metadata:
        for key, sign in SIGNS.items():
            if getattr(rule, key, None) is not None:
                found.append(f"{sign} {getattr(rule, key)}")
    return ", ".join(found)
