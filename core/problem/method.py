"""A method is data: a name for a composition of pieces, written in the mini-language of spec.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from counterlens.core.errors import UsageError

Make = Callable[[str, str], Any]  # kind, NAME key=value -> the piece


class Method(BaseModel):
    """A named composition. Every piece is ``NAME key=value``; the order of editors is the order of the fold."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    summary: str
    source: str = Field("", description="paper or project that the method comes from")
    inverter: str = "noise"
    combiner: str = "cfg scale=1"
    editors: tuple[str, ...] = ()
    guidance: tuple[str, ...] = ()
    regularizers: tuple[str, ...] = ()
    search: str = "once"
    steps: int = Field(50, ge=1, description="steps of the whole trajectory")
    tau: float = Field(0.9, gt=0, lt=1, description="target probability that counts as reached")
    control: bool = Field(False, description="a control to compare with, not an explanation")
    aside: bool = Field(False, description="runs only when it is named, never as one of all")
    prefers: tuple[str, ...] = Field((), description="families to choose first where a domain has several")

    @classmethod
    def from_yaml(cls, path: Path) -> Method:
        import yaml

        return cls(**yaml.safe_load(path.read_text(encoding="utf-8")))

    @classmethod
    def read(cls, path: str | Path) -> Method:
        """A method file of a user's; UsageError in one line where it is wrong."""
        import yaml
        from pydantic import ValidationError

        try:
            return cls.from_yaml(Path(path))
        except OSError as error:
            raise UsageError(f"method file {path}: {error.strerror}") from None
        except (yaml.YAMLError, TypeError, UnicodeDecodeError) as error:
            raise UsageError(f"method file {path}: {str(error).splitlines()[0]}") from None
        except ValidationError as error:
            first = error.errors()[0]
            raise UsageError(f"method file {path}: {first['loc'][0]}: {first['msg']}") from None


class Composition(BaseModel):
    """A method with its pieces made: what a plan checks and a problem is built of."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)
    method: Method
    inverter: Any
    combiner: Any
    editors: tuple[Any, ...]
    guidance: tuple[Any, ...]
    regularizers: tuple[Any, ...]
    search: Any

    def pieces(self) -> list[Any]:
        """Top to bottom, in the order in which a plan walks."""
        body = (*self.editors, *self.guidance, *self.regularizers)
        return [self.inverter, self.combiner, *body, self.search]

    @property
    def strength_unit(self) -> str:
        """What one unit of ``strength`` is in the records of this method; empty where nothing is made stronger."""
        units = (piece.strength_unit for piece in (self.search, *self.editors, *self.guidance))
        return next((unit for unit in units if unit), "")


def compose(make: Make, method: Method, **changes: Any) -> Composition:
    """Make the pieces of a method.

    ``changes``: ``editors``, ``guidance`` and ``regularizers`` are added after the method's own (a piece that the
    method already has is replaced in its place); any other field of the method is replaced.
    """
    added = {kind: changes.pop(kind, ()) for kind in ("editors", "guidance", "regularizers")}
    changes = {key: value for key, value in changes.items() if value is not None}
    merged = {kind: _merge(getattr(method, kind), extra) for kind, extra in added.items()}
    method = _revised(method, {**changes, **merged})
    return Composition(
        method=method,
        inverter=make("inverter", method.inverter),
        combiner=make("combiner", method.combiner),
        editors=tuple(make("editor", text) for text in method.editors),
        guidance=tuple(make("guidance", text) for text in method.guidance),
        regularizers=tuple(make("regularizer", text) for text in method.regularizers),
        search=make("search", method.search),
    )


def _merge(own: tuple[str, ...], extra: tuple[str, ...]) -> tuple[str, ...]:
    merged = list(own)
    for text in extra:
        place = [i for i, have in enumerate(merged) if have.split()[0] == text.split()[0]] if text.strip() else []
        if place and place[0] < len(own):
            merged[place[0]] = text
        else:
            merged.append(text)
    return tuple(merged)


def _revised(method: Method, changes: dict[str, Any]) -> Method:
    from pydantic import ValidationError

    try:
        return Method(**{**method.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"method {method.name!r}: {first['loc'][0]}: {first['msg']} (given {first['input']!r})"
        ) from None
