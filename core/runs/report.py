"""A run as one static HTML file that opens offline: pictures inline, no script, nothing fetched."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.utils.files import explained, plain, write_atomic

if TYPE_CHECKING:
    from PIL import Image


SMALL = 96  # pictures up to this size are shown as enlarged pixels
LARGE = 448  # larger ones are reduced to this size
CLASSES = 6  # classes shown of each classifier
Record = Mapping[str, Any]


def write_report(
    folder: Path | str, manifest: Record, records: Sequence[Record], sections: Iterable[tuple[str, str]] = ()
) -> Path:
    """``report.html`` and ``report.json`` of a run's folder; ``sections`` are (title, HTML) of plugins."""
    folder = Path(folder)
    page = render(
        "report.html.j2",
        manifest=manifest,
        items=[item_of(folder, record) for record in records],
        totals=totals(records),
        sections=list(sections),
        settings=json.dumps(plain(manifest), indent=1, ensure_ascii=False),
    )
    _whole(folder / "report.json", json.dumps(plain({"manifest": manifest, "records": list(records)}), indent=1))
    return _whole(folder / "report.html", page)


def write_comparison(path: Path | str, title: str, blocks: Sequence[Record]) -> Path:
    """Methods side by side: ``blocks`` of {name, methods, rows, table}, a row {image, source, target, pixels
    (uint8 [H,W,3]), cells}.

    A cell is a record of one method on one image, or {method, failure} where the method cannot run.
    """
    shown = []
    for block in blocks:
        rows = [_compared(row) for row in block["rows"]]
        shown.append({**block, "rows": rows})
    return _whole(Path(path), render("comparison.html.j2", title=title, blocks=shown))


def render(template: str, folder: Path | None = None, **values: Any) -> str:
    """A template of ``folder`` or of this one, escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([folder or Path(__file__).parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "share": share}
    return environment.get_template(template).render(**values)


def totals(records: Sequence[Record]) -> dict[str, int]:
    """How many images were asked for, flipped, confirmed by the judge, and failed."""
    flipped = [record for record in records if record.get("flipped")]
    judged = [record for record in flipped if record.get("judge_flipped") is not None]
    return {
        "asked": len(records),
        "flipped": len(flipped),
        "judged": len(judged),
        "confirmed": sum(bool(record["judge_flipped"]) for record in judged),
        "failed": sum(bool(record.get("failure")) for record in records),
    }


def item_of(folder: Path, record: Record) -> dict[str, Any]:
    """What the page shows of one image."""
    place = folder / "items" / str(record["digest"])
    return {
        "record": record,
        "verdict": verdict(record),
        "pictures": pictures(place, record),
        "classifiers": [
            {"who": who, "bars": found}
            for who, key in (("Explained classifier", "probabilities"), ("Judge", "judge"))
            if (found := bars(record, key))
        ],
    }


def verdict(record: Record) -> tuple[str, str]:
    """(class, words) of the badge."""
    if record.get("failure"):
        return ("failed", "failed") if "digest" in record else ("skipped", "not run")
    if not record.get("flipped"):
        return "stayed", "did not flip"
    if record.get("invisible"):
        return "doubted", "flipped, but no change can be seen"
    if record.get("judge_flipped") is False:
        return "doubted", "flipped, the judge disagrees"
    if record.get("judge_flipped") is None and record.get("judge_before"):
        return "doubted", "flipped, the judge had said so before"
    return "flipped", "flipped" if record.get("judge_flipped") is None else "flipped, the judge agrees"


def pictures(place: Path, record: Record) -> list[dict[str, Any]]:
    """Source, counterfactual, difference and map, those that there are."""
    found = {name: opened(place / f"{name}.png") for name in ("source", "counterfactual", "mask")}
    source, after, mask = found["source"], found["counterfactual"], found["mask"]
    shown = []
    if source is not None:
        shown.append(picture(source, "Source", f"decided as {record['source']}"))
    if after is not None:
        shown.append(picture(after, "Counterfactual", f"toward {record['target']}"))
    if source is not None and after is not None and source.size == after.size:
        image, note = difference(source, after)
        shown.append(picture(image, "Difference", note))
    if mask is not None:
        shown.append(picture(mask, "Change map", "white may change"))
    return shown


def opened(path: Path) -> Image.Image | None:
    """The picture as RGB, or None where there is none (or it is damaged)."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError):
        return None


def difference(source: Image.Image, after: Image.Image) -> tuple[Image.Image, str]:
    """The signed difference, magnified so that its largest value is full scale, and the words that say so."""
    import numpy as np

    from counterlens.core.images import pixels

    before, now = np.asarray(source, dtype=np.float64), np.asarray(after, dtype=np.float64)
    most = float(np.abs(now - before).max())
    words = f"signed, grey is no change; full scale ±{most / 255:.2f}" if most else "no pixel differs"
    return pixels.difference(before, now, 127.5 / most if most else 1.0), words


def picture(image: Image.Image, name: str, note: str = "") -> dict[str, Any]:
    """A picture inside the page: a data URI, its size as shown, and its words."""
    size = image.size
    if max(size) > LARGE:
        image = image.copy()
        image.thumbnail((LARGE, LARGE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {
        "uri": uri,
        "name": name,
        "note": note,
        "size": f"{size[0]}×{size[1]}",
        "ratio": f"{size[0]} / {size[1]}",
        "pixelated": max(size) <= SMALL,
    }


def bars(record: Record, key: str) -> list[dict[str, Any]]:
    """Classes with their probabilities before and after: target, source, then the most probable others."""
    before = record.get(f"{key}_before") or {}
    after = record.get(f"{key}_after") or {}
    known = {**before, **after}
    ranked = sorted(known, key=lambda c: max(before.get(c, 0), after.get(c, 0)), reverse=True)
    first = [name for name in (record.get("source"), record.get("target")) if name in known]
    chosen = list(dict.fromkeys([*first, *ranked]))[:CLASSES]
    roles = {record.get("source"): "source", record.get("target"): "target"}
    return [{"name": c, "before": before.get(c), "after": after.get(c), "role": roles.get(c, "")} for c in chosen]


def _compared(row: Record) -> dict[str, Any]:
    """A row with the source's picture, and each cell with its own."""
    from PIL import Image

    cells = []
    for cell in row["cells"]:
        path = cell.get("counterfactual")
        image = opened(Path(path)) if path else None
        drawn = picture(image, "Counterfactual") if image is not None else None
        cells.append({"record": cell, "verdict": verdict(cell), "picture": drawn})
    return {**row, "picture": picture(Image.fromarray(row["pixels"]), "Source"), "cells": cells}


def number(value: Any) -> str:
    """A number in three digits, a dash for nothing."""
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def share(value: float | None) -> str:
    """A probability as a share of a width."""
    return f"{min(1.0, max(0.0, value or 0.0)):.4f}"


def _whole(path: Path, text: str) -> Path:
    """Write a page whole or not at all; MissingError when there is no space."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.encode())
    return path
