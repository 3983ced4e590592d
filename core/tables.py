"""A run as CSV: one line an image, one line a try."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

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
