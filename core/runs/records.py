"""What is written of an image and of a run: plain dictionaries and pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from counterlens.core.images.pixels import difference, to_pixels

if TYPE_CHECKING:
    from counterlens.core.problem.items import Counterfactual, ScoredImage


Record = Mapping[str, Any]


def items_csv(records: Sequence[Record]) -> str:
    """Every plain field of the records; lists and nested values are in item.json."""
    plain = [{k: v for k, v in r.items() if v is None or isinstance(v, (str, int, float, bool))} for r in records]
    return _csv(plain, list(dict.fromkeys(key for row in plain for key in row)))


def tries_csv(records: Sequence[Record]) -> str:
    """``digest, image, target, number, skip, strength, p_target`` of everything that was tried, in order."""
    head = ("digest", "image", "target")
    rows = [
        {**{key: r[key] for key in head}, "number": k, **one}
        for r in records
        for k, one in enumerate(r.get("tried") or ())
    ]
    return _csv(rows, [*head, "number", "skip", "strength", "p_target"])


def _csv(rows: Sequence[Record], columns: Sequence[str]) -> str:
    out = io.StringIO()
    table = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return out.getvalue()


def probabilities_of(labels: Sequence[str], p: Tensor) -> dict[str, float]:
    """Probabilities by class name, six digits."""
    return {label: round(float(value), 6) for label, value in zip(labels, p, strict=True)}


SEEN = 8  # of 255: a change of no pixel beyond it is one that nobody sees


UNJUDGED: Mapping[str, Any] = {"judge_flipped": None, "judge_before": None, "judge_after": None}

UNSPENT: Mapping[str, Any] = {
    "unet_evaluations": 0,
    "unet_evaluations_reused": 0,
    "seconds_reused": 0.0,
    "peak_bytes": None,
    "gradient_evaluations": 0,
    "seconds": 0.0,
}


class ItemRecord(BaseModel):
    """What became of one image: a finished counterfactual or a failure. Every number is of the saved picture.

    ``heading`` (see heading_of), ``judged`` and ``costs`` are written as fields of the record; what was not set is not
    written. ``p_target_*`` are probabilities of ``target``, ``l1`` the mean and ``kept_max`` the largest change in
    [0,1] (of what a change map keeps), ``changed_area`` the share of pixels that change by more than 0.1;
    ``invisible``: none changes by more than 8 of 255.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    image: str
    heading: Mapping[str, Any]
    trained_on: list[str] | None = None
    source: str
    target: str
    label: str | None
    flipped: bool
    reached: bool
    p_target_before: float | None
    p_target_after: float | None
    probabilities_before: dict[str, float] | None = None
    probabilities_after: dict[str, float] | None = None
    judged: Mapping[str, Any]
    l1: float | None
    changed_area: float | None = None
    invisible: bool | None = None
    kept_max: float | None = None
    strength: float | None = None
    tried: tuple[Mapping[str, Any], ...] = ()
    costs: Mapping[str, Any]
    notes: tuple[str, ...]
    failure: str | None
    counterfactual: str | None = None

    @classmethod
    def of(
        cls, done: Counterfactual, heading: Record, tau: float, labels: Sequence[str], judged: Record, costs: Record
    ) -> ItemRecord:
        """The record of a finished image."""
        source = done.item.pixels.astype(np.float64) / 255
        change = np.abs(to_pixels(done.image).astype(np.float64) / 255 - source)
        return cls(
            **_known(done, labels),
            heading=heading,
            flipped=done.flipped,
            reached=bool(done.after[done.target] >= tau),
            p_target_after=round(float(done.after[done.target]), 6),
            probabilities_after=probabilities_of(labels, done.after),
            judged=judged,
            l1=round(float(change.mean()), 6),
            changed_area=round(float((change.max(-1) > 0.1).mean()), 6),
            invisible=bool(change.max() * 255 <= SEEN + 1e-6),
            **_kept(done, change),
            strength=done.strength,
            tried=done.tried,
            costs=costs,
            failure=None,
        )

    @classmethod
    def failed(
        cls, failure: str, one: ScoredImage | None = None, labels: Sequence[str] = (), **known: Any
    ) -> ItemRecord:
        """A failure is a row too: nothing that was asked for is dropped. ``one``: the image, if it was scored;
        ``known``: ``heading``, and of an image that was not its digest, image, source, target and label."""
        nothing = dict.fromkeys(("p_target_before", "p_target_after", "l1", "counterfactual"))
        nothing |= {
            "flipped": False,
            "reached": False,
            "judged": {"judge_flipped": None},
            "costs": UNSPENT,
            "notes": (),
        }
        return cls(**{**nothing, **(_known(one, labels) if one else {}), **known, "failure": failure})

    def written(self) -> dict[str, Any]:
        """One flat mapping, as in item.json; lists are tuples."""
        flat: dict[str, Any] = {}
        for key, value in self.model_dump(exclude_unset=True).items():
            flat |= value if key in ("heading", "judged", "costs") else {key: value}
        return flat


def _known(one: Counterfactual | ScoredImage, labels: Sequence[str]) -> dict[str, Any]:
    """What is known of an image as soon as it has been scored."""
    item, trained_on = one.item, one.item.origin.get("trained_on")
    return {
        "digest": item.digest,
        "image": item.name,
        **({"trained_on": trained_on} if trained_on else {}),
        "source": labels[one.source],
        "target": labels[one.target],
        "label": item.label,
        "p_target_before": round(float(one.before[one.target]), 6),
        "probabilities_before": probabilities_of(labels, one.before),
        "notes": item.notes,
    }


def _kept(done: Counterfactual, change: np.ndarray) -> dict[str, Any]:
    """Largest change [H,W,3] of what the change map keeps; None where there is nothing kept, nothing without a map."""
    if done.map is None:
        return {}
    kept = change[done.map[0].numpy() == 0]
    return {"kept_max": round(float(kept.max()), 6) if kept.size else None}


def judgement(labels: Sequence[str], before: Tensor, after: Tensor, target: str) -> dict[str, Any]:
    """What the judge says, which only reports; None where it does not know the target's name, or had decided the source
    as the target already: it cannot confirm a change that it had not missed."""
    if target not in labels:
        return dict(UNJUDGED)
    at = list(labels).index(target)
    return {
        "judge_flipped": None if int(before.argmax()) == at else int(after.argmax()) == at,
        "judge_before": probabilities_of(labels, before),
        "judge_after": probabilities_of(labels, after),
    }


def pictures_of(done: Counterfactual, place: Callable[..., np.ndarray] | None) -> dict[str, Image.Image]:
    """The files of an item: source, counterfactual, signed difference (grey is no change), map, and the photograph
    with the counterfactual put back, where it was cropped or scaled."""
    after, before = to_pixels(done.image), done.item.pixels
    pictures = {
        "source": Image.fromarray(before),
        "counterfactual": Image.fromarray(after),
        "difference": difference(before, after),
    }
    if place is not None:
        free = None if done.alpha is None else done.alpha[0].cpu().numpy()
        pictures["photo"] = Image.fromarray(place(after, free))
    if done.map is not None:
        pictures["mask"] = Image.fromarray((done.map[0] * 255).round().byte().cpu().numpy())
    return pictures
