"""A piece's options: made of text, and described for help."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from counterlens.core.errors import UsageError, unknown

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from counterlens.core.pieces.base import Piece


SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "multiple_of": "multiple of", "pattern": "like"}


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


def build(cls: type[Piece], options: Mapping[str, Any], make: Any = None) -> Piece:
    """A piece with these options; text is read as the field's type, commas separate the values of a tuple.

    ``make(kind, text)`` is what a piece makes others by that it names itself (a change map its maskers).
    """
    values = {key: _split(cls, key, value) for key, value in options.items()}
    try:
        return cls.model_validate(values, context={"make": make} if make else None)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:1]) or "options"
        if first["type"] == "extra_forbidden":
            raise UsageError(f"{cls.kind} {cls.name!r}: {unknown('option', key, cls.model_fields)}") from None
        raise UsageError(
            f"{cls.kind} {cls.name!r}: option {key!r}: {first['msg']} (given {first['input']!r})"
        ) from None


def _split(cls: type[Piece], key: str, value: Any) -> Any:
    fields = cls.model_fields
    if isinstance(value, str) and key in fields and _is_tuple(fields[key].annotation):
        return tuple(part for part in value.split(",") if part)
    return value


def _is_tuple(annotation: Any) -> bool:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return any(_is_tuple(part) for part in typing.get_args(annotation))
    return typing.get_origin(annotation) is tuple
