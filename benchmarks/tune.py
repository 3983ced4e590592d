"""Hyper-parameters of a method, searched on the selection split and reported on the other.

The search sees the explained classifier and the distance, never the judge. Every trial has the same images; the best
one becomes a method file that ``bench`` and ``explain`` can use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.pieces.spec import parse_spec
from counterlens.core.problem.method import Method, compose

if TYPE_CHECKING:
    from counterlens.core.plugin.registry import Registry

SPEED = ("together", "batch")  # options that change what a result costs, not what it is
LEAST, MOST = 0.25, 4.0  # a number is searched between these multiples of its default
Score = Callable[[Method], Mapping[str, float]]


@dataclass(frozen=True)
class Knob:
    """A number of a piece of a method: which field of the method, the place in it, the option, its range."""

    field: str
    place: int
    option: str
    low: float
    high: float
    whole: bool = False

    @property
    def name(self) -> str:
        return f"{self.field}[{self.place}].{self.option}" if self.place >= 0 else f"{self.field}.{self.option}"


def knobs(method: Method, registry: Registry, ranges: Mapping[str, tuple[float, float]] | None = None) -> list[Knob]:
    """Every number of the method's pieces, within a quarter and four times its value and what the option allows.

    A list of numbers (a ladder of strengths) is one knob: a factor for all of them. ``ranges`` replaces ranges by the
    knob's name; UsageError for a name that is none.
    """
    composed = compose(registry.make, method)
    found: list[Knob] = []
    for field in ("inverter", "combiner", "search"):
        found += _of(getattr(composed, field), field, -1)
    for field in ("editors", "guidance", "regularizers"):
        for place, piece in enumerate(getattr(composed, field)):
            found += _of(piece, field, place)
    names = {knob.name: knob for knob in found}
    for name, (low, high) in (ranges or {}).items():
        if name not in names:
            raise UsageError(f"no number {name!r} in {method.name!r}: {', '.join(names) or 'there is none'}")
        names[name] = Knob(**{**vars(names[name]), "low": low, "high": high})
    return [names[name] for name in (ranges or names)]


def _of(piece: Any, field: str, place: int) -> list[Knob]:
    """The knobs of a piece: numbers that are not zero, and lists of numbers."""
    found = []
    for option, about in type(piece).model_fields.items():
        value = getattr(piece, option)
        if option in SPEED:
            continue
        numbers = isinstance(value, tuple) and value and all(isinstance(v, (int, float)) for v in value)
        if numbers and all(v > 1 or _unbounded(about) for v in value):
            found.append(Knob(field=field, place=place, option=option, low=LEAST, high=MOST))
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and value:
            low, high = _allowed(about, value)
            if low < high:
                found.append(
                    Knob(field=field, place=place, option=option, low=low, high=high, whole=isinstance(value, int))
                )
    return found


def _unbounded(about: Any) -> bool:
    """Strengths may be multiplied; shares of a trajectory may not: they say so in their description."""
    return "share" not in (about.description or "")


def _allowed(about: Any, value: float) -> tuple[float, float]:
    """Between a quarter of the value and four times, within the bounds of the field."""
    low, high = sorted((value * LEAST, value * MOST))
    for bound in about.metadata:
        low = max(low, *(b for b in (getattr(bound, "ge", None), getattr(bound, "gt", None)) if b is not None), low)
        high = min(high, *(b for b in (getattr(bound, "le", None),) if b is not None), high)
        if (below := getattr(bound, "lt", None)) is not None:
            high = min(high, 0.95 * below)
    return low, high


def changed(method: Method, values: Mapping[Knob, float], registry: Registry) -> Method:
    """The method with these values written into its pieces."""
    content = method.model_dump()
    for knob, value in values.items():
        text = content[knob.field] if knob.place < 0 else content[knob.field][knob.place]
        name, options = parse_spec(text)
        kind = {"editors": "editor", "regularizers": "regularizer"}.get(knob.field, knob.field)
        now = getattr(registry.make(kind, text), knob.option)
        options[knob.option] = _written(now, value, knob.whole)
        written = " ".join([name, *(f"{key}={_text(part)}" for key, part in options.items())])
        if knob.place < 0:
            content[knob.field] = written
        else:
            content[knob.field] = tuple(written if k == knob.place else t for k, t in enumerate(content[knob.field]))
    return Method(**content)


def _written(now: Any, value: float, whole: bool) -> Any:
    if isinstance(now, tuple):
        return ",".join(f"{part * value:.4g}" for part in now)
    return round(value) if whole else float(f"{value:.4g}")


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def search(method: Method, found: Sequence[Knob], score: Score, budget: int, registry: Registry, seed: int = 0) -> Any:
    """An Optuna study of ``budget`` trials, the method as it is first; ``best_method`` and ``trials`` are read from it.

    ``score`` gives ``objective`` (higher is better) and what else is worth keeping. MissingError without Optuna.
    """
    try:
        import optuna
    except ImportError:
        raise MissingError('tune needs Optuna: pip install "counterlens[tune]"') from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))

    def trial(one: Any) -> float:
        if one.number == 0:  # what it has to beat
            values: dict[Knob, float] = {}
        else:
            values = {knob: one.suggest_float(knob.name, knob.low, knob.high, log=knob.low > 0) for knob in found}
        candidate = changed(method, values, registry)
        result = dict(score(candidate))
        for key, value in result.items():
            one.set_user_attr(key, value)
        one.set_user_attr("method", candidate.model_dump(mode="json"))
        return result["objective"]

    study.optimize(trial, n_trials=budget)
    return study


def objective(rows: Sequence[Mapping[str, Any]], weight: float) -> dict[str, float]:
    """Share of all images that flip, less ``weight`` times the mean L1 of all (an image that fails counts as 1)."""
    flips = [float(bool(row and row.get("flipped"))) for row in rows]
    far = [float(row["l1"]) if row and row.get("l1") is not None else 1.0 for row in rows]
    flip, l1 = sum(flips) / len(flips), sum(far) / len(far)
    return {"objective": flip - weight * l1, "flip_rate": flip, "l1": l1}


def write_method(method: Method, path: Path) -> Path:
    """The method as a YAML file."""
    from counterlens.core.utils.files import explained, write_atomic

    text = yaml.safe_dump(method.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.encode())
    return path
