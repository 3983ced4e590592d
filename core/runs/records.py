"""What is written of an image and of a run: plain dictionaries and pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch import Tensor

from counterlens.core.images.pixels import to_pixels

if TYPE_CHECKING:
    from counterlens.core.problem.items import Counterfactual, ScoredImage


Record = Mapping[str, Any]


SEEN = 8  # of 255: a change of no pixel beyond it is one that nobody sees


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


def record_of(
    done: Counterfactual,
    heading: Mapping[str, Any],
    tau: float,
    labels: Sequence[str],
    judged: Mapping[str, Any],
    costs: Mapping[str, Any],
) -> dict[str, Any]:
    """The record of a finished image; every number is taken from the saved picture. ``heading``: see heading_of."""
    source = done.item.pixels.astype(np.float64) / 255
    change = np.abs(to_pixels(done.image).astype(np.float64) / 255 - source)
    return {
        **_head(done, heading),
        "source": labels[done.source],
        "target": labels[done.target],
        "label": done.item.label,
        "flipped": done.flipped,
        "reached": bool(done.after[done.target] >= tau),
        "p_target_before": round(float(done.before[done.target]), 6),
        "p_target_after": round(float(done.after[done.target]), 6),
        "probabilities_before": probabilities_of(labels, done.before),
        "probabilities_after": probabilities_of(labels, done.after),
        **judged,
        "l1": round(float(change.mean()), 6),
        "changed_area": round(float((change.max(-1) > 0.1).mean()), 6),
        "invisible": bool(change.max() * 255 <= SEEN + 1e-6),
        **_kept(done, change),
        "strength": done.strength,
        "tried": list(done.tried),
        **costs,
        "notes": list(done.item.notes),
        "failure": None,
    }


def _kept(done: Counterfactual, change: np.ndarray) -> dict[str, Any]:
    """Largest change [H,W,3] of what the change map keeps; None where there is nothing kept, nothing without a map."""
    if done.map is None:
        return {}
    kept = change[done.map[0].numpy() == 0]
    return {"kept_max": round(float(kept.max()), 6) if kept.size else None}


def failed_record(
    ready: ScoredImage, heading: Mapping[str, Any], labels: Sequence[str], failure: str
) -> dict[str, Any]:
    """A failure is a row too: nothing that was asked for is dropped."""
    nothing = dict.fromkeys(("p_target_after", "judge_flipped", "l1", "counterfactual", "peak_bytes"))
    return {
        **_head(ready, heading),
        "source": labels[ready.source],
        "target": labels[ready.target],
        "label": ready.item.label,
        "flipped": False,
        "reached": False,
        "p_target_before": round(float(ready.before[ready.target]), 6),
        "probabilities_before": probabilities_of(labels, ready.before),
        **nothing,
        "unet_evaluations": 0,
        "gradient_evaluations": 0,
        "unet_evaluations_reused": 0,
        "seconds_reused": 0.0,
        "seconds": 0.0,
        "notes": list(ready.item.notes),
        "failure": failure,
    }


def _head(one: Any, heading: Mapping[str, Any]) -> dict[str, Any]:
    trained_on = one.item.origin.get("trained_on")
    seen = {"trained_on": list(trained_on)} if trained_on else {}
    return {"digest": one.item.digest, "image": one.item.name, **heading, **seen}


def judgement(labels: Sequence[str], before: Tensor, after: Tensor, target: str) -> dict[str, Any]:
    """What the judge says, which only reports; None where it does not know the target's name, or had decided the source
    as the target already: it cannot confirm a change that it had not missed."""
    if target not in labels:
        return {"judge_flipped": None, "judge_before": None, "judge_after": None}
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
    difference = 127.5 + (after.astype(np.float64) - before) / 2
    pictures = {
        "source": Image.fromarray(before),
        "counterfactual": Image.fromarray(after),
        "difference": Image.fromarray(difference.round().astype(np.uint8)),
    }
    if place is not None:
        free = None if done.alpha is None else done.alpha[0].cpu().numpy()
        pictures["photo"] = Image.fromarray(place(after, free))
    if done.map is not None:
        pictures["mask"] = Image.fromarray((done.map[0] * 255).round().byte().cpu().numpy())
    return pictures
