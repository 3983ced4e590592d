"""How metrics are written: ``CounterfactualPair``, ``Column`` and the bases; how they are asked is in evaluate.py.

A metric of scope ``image`` says a number about each pair; one of scope ``set`` says a number about many pictures at
once, out of a state that can be gathered in parts and merged. Three answers are kept apart, for nothing is dropped
silently: a number; ``nan``, when the image is of the metric's population and could not be measured (a failed item);
None, when the image is not of the population (an image that did not flip has no judge agreement).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from counterlens.core.errors import UsageError
from counterlens.core.pieces.base import Piece

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.metrics.context import Context


class Metric(Piece):
    """A number an image (or a set of images) about counterfactuals; how to write one is in core/metrics/metric.py.

    ``scope``: ``image`` or ``set``. ``bounds``: least and greatest value, None is unbounded. ``cost``: ``record``
    (read off the record), ``pixels`` (arithmetic), ``classifier`` (asks a classifier) or ``network`` (another network).
    ``population``: a word of ``POPULATIONS`` in core/metrics/metric.py, the images that the number speaks about.
    ``source``: where the definition comes from.
    """

    kind: ClassVar[str] = "metric"
    scope: ClassVar[str] = "image"
    higher_is_better: ClassVar[bool | None] = None
    bounds: ClassVar[tuple[float | None, float | None]] = (None, None)
    unit: ClassVar[str] = ""
    cost: ClassVar[str] = "pixels"
    population: ClassVar[str] = "all"
    source: ClassVar[str] = ""


NAN = math.nan
Value = float | None
YES_NO = "yes/no"  # unit of metrics whose values are 1 and 0; their mean is a share
KEYS = ("digest", "image", "target")  # of a row; rows of several methods belong together by image and target

POPULATIONS = {
    "all": "every image that was asked for",
    "correct": "images that the explained classifier gets right",
    "flipped": "images whose counterfactual is decided as the target",
}


@dataclass(frozen=True, eq=False)
class CounterfactualPair:
    """A source image and its counterfactual, as they were saved.

    ``record``: the record of the item (core/runs/records.py). ``source`` and ``counterfactual``: [3,H,W] in [0,1];
    ``counterfactual`` is None for a failed item. ``truth``: the true counterfactual [3,H,W], where it is known.
    ``factors``: known factors of the source. ``region``: [1,H,W] in [0,1], 1 = may change. ``others``: further
    counterfactuals of the same source, for diversity, None where one failed.
    """

    record: Mapping[str, Any]
    source: Tensor
    counterfactual: Tensor | None
    truth: Tensor | None = None
    factors: Mapping[str, float] = field(default_factory=dict)
    region: Tensor | None = None
    others: tuple[Tensor | None, ...] = ()

    def __post_init__(self) -> None:
        shape = tuple(self.source.shape)
        if len(shape) != 3 or shape[0] != 3:
            raise UsageError(f"pair {self.digest}: the source must be [3,H,W], not {list(shape)}")
        for name in ("counterfactual", "truth"):
            picture = getattr(self, name)
            if picture is not None and tuple(picture.shape) != shape:
                raise UsageError(f"pair {self.digest}: the {name} is {list(picture.shape)}, the source {list(shape)}")

    @property
    def digest(self) -> str:
        """The item's digest: what rows are paired by."""
        return str(self.record.get("digest", ""))

    @property
    def subject(self) -> str:
        """The image and its target: the key of the source and of its counterfactuals in set metrics."""
        return f"{self.record.get('image')} > {self.record.get('target')}"

    @property
    def failed(self) -> bool:
        return self.counterfactual is None or bool(self.record.get("failure"))

    @property
    def flipped(self) -> bool:
        """The explained classifier decides the saved picture as the target; a failed item did not flip."""
        return not self.failed and bool(self.record.get("flipped"))

    @property
    def correct(self) -> bool | None:
        """Whether the explained classifier gets the source right; None when its label is not known."""
        label = self.record.get("label")
        return None if label is None else label == self.record.get("source")

    def within(self, population: str) -> bool:
        """Whether the pair is of a population (a word of POPULATIONS)."""
        return {"all": True, "correct": self.correct is True, "flipped": self.flipped}[population]


@dataclass(frozen=True)
class Column:
    """One number that a metric says: its name in tables, and how to read it."""

    name: str
    metric: str
    higher_is_better: bool | None
    bounds: tuple[float | None, float | None]
    unit: str
    cost: str
    population: str
    scope: str
    summary: str

    @property
    def binary(self) -> bool:
        """Every image says 1 or 0."""
        return self.unit == YES_NO


class Measure(Metric):
    """What both scopes share: names of columns, and what is missing."""

    def names(self, context: Context) -> tuple[str, ...]:
        """Names of the numbers it says, known before anything is loaded; the metric's own name unless overridden."""
        return (self.name,)

    def columns(self, context: Context) -> tuple[Column, ...]:
        """A Column for each name."""
        about = (self.name, self.higher_is_better, self.bounds, self.unit, self.cost, self.population, self.scope)
        return tuple(Column(name, *about, self.summary()) for name in self.names(context))

    def missing(self, context: Context) -> str:
        """What is missing and what to do, in one line; empty when it can run. Loads nothing."""
        absent = sorted(self.wanted() - context.gives)
        return "; ".join(context.advice(word) for word in absent)


class ImageMetric(Measure):
    """A number an image. Override ``measure``, or derive from PictureMetric or RecordMetric, which do the rest."""

    scope: ClassVar[str] = "image"

    def measure(self, pairs: Sequence[CounterfactualPair], context: Context) -> Mapping[str, Sequence[Value]]:
        """For each of ``names``: a value a pair (number, nan, or None outside the population)."""
        raise NotImplementedError


class RecordMetric(ImageMetric):
    """Read off the record of one item: override ``of``."""

    cost: ClassVar[str] = "record"

    def of(self, pair: CounterfactualPair) -> Value:
        """The value of a pair of the population; nan when the record does not say."""
        raise NotImplementedError

    def measure(self, pairs: Sequence[CounterfactualPair], context: Context) -> Mapping[str, Sequence[Value]]:
        return {self.name: [self.of(pair) if pair.within(self.population) else None for pair in pairs]}


class PictureMetric(ImageMetric):
    """Compares two pictures: override ``compare``. Failed items get nan, pairs of one size are compared at once."""

    def compare(self, source: Tensor, edited: Tensor, pairs: Sequence[CounterfactualPair], context: Context) -> Any:
        """``source`` and ``edited`` [B,3,H,W] in [0,1] of B pairs: [B], or {name: [B]} when there are several."""
        raise NotImplementedError

    def measure(self, pairs: Sequence[CounterfactualPair], context: Context) -> Mapping[str, Sequence[Value]]:
        import torch

        names = self.names(context)
        found: dict[str, list[Value]] = {
            name: [NAN if pair.within(self.population) else None for pair in pairs] for name in names
        }
        groups: dict[tuple[int, ...], list[int]] = {}
        for at, pair in enumerate(pairs):
            if pair.within(self.population) and not pair.failed:
                groups.setdefault(tuple(pair.source.shape), []).append(at)
        for rows in groups.values():
            chosen = [pairs[at] for at in rows]
            source = torch.stack([pair.source.float() for pair in chosen]).to(context.device)
            edited = torch.stack([pair.counterfactual.float() for pair in chosen if pair.counterfactual is not None])
            with torch.no_grad():
                answer = self.compare(source, edited.to(context.device), chosen, context)
            for name, values in (answer if isinstance(answer, Mapping) else {names[0]: answer}).items():
                for at, value in zip(rows, values.double().tolist(), strict=True):
                    found[name][at] = value
        return found


class State(Protocol):
    """What a set metric remembers of pictures. Merging is exact: any order and grouping gives the same bits."""

    def merge(self, other: Any) -> Any: ...


Keyed = tuple[str, "Tensor | None"]  # (key, such as Pair.subject; picture [3,H,W] in [0,1], None for a failed item)


class SetMetric(Measure):
    """A number about a set of counterfactuals beside a set of real images.

    ``paired``: a source and its counterfactual must have the same key on both sides.
    """

    scope: ClassVar[str] = "set"
    paired: ClassVar[bool] = False

    def gather(self, reals: Iterable[Keyed], fakes: Iterable[Keyed], context: Context) -> State:
        """What has to be remembered; parts gathered by several workers are merged with ``State.merge``."""
        raise NotImplementedError

    def result(self, state: Any) -> Mapping[str, float]:
        """A number for each of ``names``; nan when there are too few pictures."""
        raise NotImplementedError

    def counts(self, state: Any) -> tuple[int, int]:
        """(real pictures, counterfactuals) that the state has seen."""
        raise NotImplementedError

    def quick(self, state: Any) -> bool:
        """Whether ``result`` takes so little that it can be asked again and again for an interval."""
        return True

    def least(self) -> int:
        """The number of pictures below which the number says little: a warning is printed with it."""
        return 0
