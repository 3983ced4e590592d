"""What else changed: attributes that another classifier reads off the faces, birds or shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.classifiers.features import Features
from counterlens.core.errors import UsageError
from counterlens.core.metrics.metric import Keyed, PictureMetric, SetMetric

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.metrics.context import Context


def attributes(classifier: Classifier, images: Tensor, batch: int = 64) -> Tensor:
    """Probability of every attribute [B,A], each on its own (sigmoid), of images [B,3,H,W] in [0,1]."""
    import torch

    with torch.no_grad():
        logits = torch.cat([classifier.logits(part) for part in images.split(batch)])
    return logits.sigmoid() if classifier.outputs == "logits" else logits.exp()


class Mnac(PictureMetric):
    """Mean number of attributes changed: how many of them cross one half, over the flipped pairs."""

    name: ClassVar[str] = "mnac"
    needs: ClassVar[frozenset[str]] = frozenset({"attributes"})
    population: ClassVar[str] = "flipped"
    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[tuple[float | None, float | None]] = (0, None)
    unit: ClassVar[str] = "attributes"
    cost: ClassVar[str] = "classifier"
    source: ClassVar[str] = "Rodríguez et al. 2021 (DiVE); the image is normalised once, by the classifier's contract"

    def compare(self, source: Tensor, edited: Tensor, pairs: Any, context: Any) -> Tensor:
        before, after = (attributes(context.attributes, x, context.batch) > 0.5 for x in (source, edited))
        return (before != after).double().sum(1)


class AttributeChange(PictureMetric):
    """Absolute change of every attribute's probability: a column each, so that what else an edit changes is seen."""

    name: ClassVar[str] = "attribute_change"
    needs: ClassVar[frozenset[str]] = frozenset({"attributes"})
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 1)
    cost: ClassVar[str] = "classifier"
    source: ClassVar[str] = "Haas et al. 2024, Table I, with any attribute classifier in place of CLIP's prompts"

    def names(self, context: Context) -> tuple[str, ...]:
        return tuple(f"attribute_{label}" for label in context.attributes.labels) if context.attributes_uri else ()

    def compare(self, source: Tensor, edited: Tensor, pairs: Any, context: Any) -> Mapping[str, Tensor]:
        before, after = (attributes(context.attributes, x, context.batch) for x in (source, edited))
        return dict(zip(self.names(context), (after - before).abs().double().T, strict=True))


class Disentanglement(PictureMetric):
    """How much of an edit is the attribute that it is about: its change less the largest of any other attribute."""

    name: ClassVar[str] = "disentanglement"
    needs: ClassVar[frozenset[str]] = frozenset({"attributes"})
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (-1, 1)
    cost: ClassVar[str] = "classifier"
    source: ClassVar[str] = "Haas et al. 2024, Table I: on-target change against the largest off-target one"
    query: str = Field("", description="the attribute that the counterfactuals are about")

    def missing(self, context: Context) -> str:
        return super().missing(context) or ("" if self.query else "no attribute is asked about: give query=")

    def compare(self, source: Tensor, edited: Tensor, pairs: Any, context: Any) -> Tensor:
        net = context.attributes
        before, after = (attributes(net, x, context.batch) for x in (source, edited))
        change, at = (after - before).abs().double(), net.label_index(self.query)
        if change.shape[1] < 2:
            return change[:, at]
        others = [k for k in range(change.shape[1]) if k != at]
        return change[:, at] - change[:, others].max(1).values


@dataclass(frozen=True)
class Deltas:
    """Attributes of the source and their change, by key: {key: (before [A], change [A])}; merging is a union."""

    found: Mapping[str, tuple[np.ndarray, np.ndarray]]
    reference: np.ndarray | None
    query: int

    def merge(self, other: Deltas) -> Deltas:
        return Deltas({**self.found, **other.found}, self.reference, self.query)


class CorrelationDifference(SetMetric):
    """Sum over attributes of how far their change's correlation with the query's is from that of the labels.

    Give ``labels``, a CSV of the training labels (a column an attribute, 0 or 1); without it the classifier's own
    answers to the sources take their place, and the column is called ``cd_predicted``.
    """

    name: ClassVar[str] = "cd"
    paired: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"attributes"})
    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[tuple[float | None, float | None]] = (0, None)
    cost: ClassVar[str] = "classifier"
    source: ClassVar[str] = "Jeanneret et al. 2022 (DiME)"
    query: str = Field("", description="the attribute that the counterfactuals are about")
    labels: str = Field("", description="CSV of training labels with a column for every attribute")

    def names(self, context: Context) -> tuple[str, ...]:
        return ("cd" if self.labels else "cd_predicted",)

    def missing(self, context: Context) -> str:
        why = super().missing(context)
        if not why and not self.query:
            return "no attribute is asked about: give query="
        if not why and self.labels and not Path(self.labels).expanduser().is_file():
            return f"{self.labels} does not exist: give a CSV of training labels"
        return why

    def gather(self, reals: Iterable[Keyed], fakes: Iterable[Keyed], context: Context) -> Deltas:
        """``reals`` are the sources, with the keys of their counterfactuals."""
        net = context.attributes
        read = context.once("attributes", lambda: Features("attributes", partial(attributes, net), context.device))
        made = {key: picture for key, picture in fakes if picture is not None}
        both = [(key, picture, made[key]) for key, picture in reals if picture is not None and key in made]
        sides = [source for _, source, _ in both], [edited for _, _, edited in both]
        before, after = (read.of(pictures).double().numpy() for pictures in sides)
        found = {key: (x, y - x) for (key, _, _), x, y in zip(both, before, after, strict=True)}
        reference = correlations(read_labels(self.labels, net.labels)) if self.labels else None
        return Deltas(found, reference, net.label_index(self.query))

    def result(self, state: Deltas) -> dict[str, float]:
        import numpy as np

        name = "cd_predicted" if state.reference is None else "cd"
        if len(state.found) < 2:
            return {name: float("nan")}
        rows = [state.found[key] for key in sorted(state.found)]
        before, change = (np.stack([row[k] for row in rows]) for k in (0, 1))
        reference = correlations(before) if state.reference is None else state.reference
        return {name: float(np.abs(correlations(change)[state.query] - reference[state.query]).sum())}

    def counts(self, state: Deltas) -> tuple[int, int]:
        return len(state.found), len(state.found)

    def least(self) -> int:
        return 100


def correlations(table: np.ndarray) -> np.ndarray:
    """Pearson's correlations [A,A] of the columns of a table [N,A]; 0 where a column does not vary."""
    import numpy as np

    centred = table - table.mean(0)
    spread = np.sqrt((centred**2).sum(0))
    below = np.outer(spread, spread)
    return np.divide(centred.T @ centred, below, out=np.zeros_like(below), where=below > 1e-12)


def read_labels(path: str, names: Sequence[str]) -> np.ndarray:
    """[N,A] in the order of ``names``; UsageError when a column is missing or a value is no number."""
    import csv

    import numpy as np

    with Path(path).expanduser().open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if absent := [name for name in names if not rows or name not in rows[0]]:
        raise UsageError(f"{path}: no column {absent[0]!r} (and {len(absent) - 1} more): one for every attribute")
    try:
        return np.array([[float(row[name]) for name in names] for row in rows])
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: labels must be numbers ({error})") from None
