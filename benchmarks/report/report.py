"""The report of a benchmark: one HTML file that opens offline, with every picture inside, and every failure."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.benchmarks.report import table
from counterlens.benchmarks.stats import pareto
from counterlens.core.runs.report import difference, number, render, verdict

if TYPE_CHECKING:
    from PIL import Image

    from counterlens.benchmarks.protocol.bench import Bench
    from counterlens.benchmarks.stats.evaluate import Measured

MAIN = ("flip_rate", "target_at_tau", "judge_agreement", "l1", "changed_area", "lpips", "unet_evaluations", "seconds")
EXACT = 64  # pictures up to this side are shown without loss
BUDGET = 45_000  # bytes of pictures that one image may take in the page, over all methods
SETTINGS = ((160, 80), (128, 75), (112, 70), (96, 60), (80, 50), (64, 40))  # (side, quality) of larger ones
TESTED = ("flip_rate", "judge_agreement", "l1", "seconds")
Record = Mapping[str, Any]


def page(bench: Bench, summary: Record, found: Measured, sections: Iterable[tuple[str, str]] = ()) -> str:
    """The report as text."""
    records = bench.records()
    names, _, _ = table.grid(summary)
    shrink = _thumbnails(bench, records, len(names))
    return render(
        "report.html.j2",
        folder=Path(__file__).parent,
        summary=summary,
        manifest=bench.run.manifest,
        caption=table.caption(summary),
        names=names,
        **_numbers(summary, found),
        pareto=_pareto(summary),
        tests=[test for test in summary["tests"] if test["metric"] in TESTED],
        failures=[r for rows in records.values() for r in rows if r and r.get("failure")],
        images=[_image(bench, k, names, records, found, shrink) for k in range(len(bench.jobs))],
        sections=list(sections),
        protocol=json.dumps(summary["protocol"], indent=1, ensure_ascii=False),
    )


def _numbers(summary: Record, found: Measured) -> dict[str, Any]:
    """Rows and columns of the table, and the warnings that belong to them."""
    names, metrics, cells = table.grid(summary)
    main, best = set(MAIN) & set(metrics), set(pareto.front(summary["rows"]))
    shown = [
        {"name": table.heading(name, cells), "title": _about(name, found), "main": name in main} for name in metrics
    ]
    rows = [
        {
            "name": name,
            "control": name in summary["controls"],
            "front": name in best,
            "cells": [{**_cell(cells.get((name, metric))), "main": metric in main} for metric in metrics],
        }
        for name in names
    ]
    return {"metrics": shown, "rows": rows, "warnings": _warnings(summary["rows"])}


def _warnings(rows: Sequence[Record]) -> list[str]:
    """Each warning once, with the metrics that it is about."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.get("warning"):
            found.setdefault(row["warning"], []).append(row["metric"])
    return [f"{', '.join(dict.fromkeys(metrics))}: {text}" for text, metrics in found.items()]


def _about(name: str, found: Measured) -> str:
    column = found.columns.get(name)
    return f"{column.summary} Population: {column.population}." if column else ""


def _cell(row: Record | None) -> dict[str, Any]:
    if row is None or row["value"] is None or not math.isfinite(row["value"]):
        return {"text": "–", "around": "", "sort": "", "title": (row or {}).get("warning") or ""}
    around = f"{row['ci95'][0]:.3g} to {row['ci95'][1]:.3g}" if row.get("ci95") else ""
    title = f"n = {row['n']}, {row['population']}" + (f"; {row['warning']}" if row.get("warning") else "")
    return {"text": f"{row['value']:.3g}", "around": around, "sort": row["value"], "title": title}


def _pareto(summary: Record) -> str:
    """The plot as SVG, or nothing."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = pareto.plot(summary["rows"], Path(folder) / "pareto.svg")
        text = path.read_text(encoding="utf-8") if path else ""
    return text[text.find("<svg") :]


@dataclass(frozen=True)
class Shrink:
    """How pictures are put into the page: small ones as they are, larger ones reduced."""

    side: int
    quality: int

    def __call__(self, image: Image.Image, exact: bool = True) -> tuple[str, str]:
        """(data URI, attributes of the img element)."""
        small = max(image.size) <= EXACT
        if max(image.size) > self.side and not small:
            image = image.copy()
            image.thumbnail((self.side, self.side))
        out = io.BytesIO()
        if small and exact:
            image.save(out, "WEBP", lossless=True, quality=20, method=1)
        else:
            image.save(out, "WEBP", quality=60 if small else self.quality, method=1)
        uri = "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
        return uri, ' class="pixels"' if small else ""


def _thumbnails(bench: Bench, records: Mapping[str, Sequence[Record | None]], columns: int) -> Shrink:
    """The largest setting with which an image's pictures stay within the budget, tried on a few of them."""
    done = [r for rows in records.values() for r in rows[:4] if r and not r.get("failure")][:12]
    pictures = [_open(bench, record, "counterfactual") for record in done]
    for side, quality in SETTINGS:
        shrink = Shrink(side, quality)
        sizes = [len(shrink(image)[0]) for image in pictures if image is not None]
        if not sizes or (sum(sizes) / len(sizes)) * (1 + 1.4 * columns) < BUDGET:
            break
    return shrink


def _image(
    bench: Bench,
    k: int,
    names: Sequence[str],
    records: Mapping[str, Sequence[Record | None]],
    found: Measured,
    shrink: Shrink,
) -> dict[str, Any]:
    """A row of the gallery."""
    job = bench.jobs[k]
    first = next((r for rows in records.values() if (r := rows[k]) and not r.get("failure")), None)
    source = _open(bench, first, "source") if first else None
    uri, css = shrink(source) if source is not None else ("", "")
    values = {name: {row["digest"]: row for row in found.values.get(name, ())} for name in names}
    return {
        "name": job.name,
        "source": job.source,
        "target": job.target,
        "label": job.label,
        "text": f"{job.name} {job.source} {job.target} {job.label}".lower(),
        "uri": uri,
        "css": css,
        "cells": [_gallery_cell(bench, name, records[name][k], values[name], shrink) for name in names],
    }


def _gallery_cell(
    bench: Bench, name: str, record: Record | None, values: Mapping[str, Record], shrink: Shrink
) -> dict[str, Any]:
    empty = {"method": name, "uri": "", "p": "", "l1": "", "s": "", "facts": (), "failure": ""}
    if record is None:
        return {**empty, "verdict": ("missing", "not finished")}
    if record.get("failure"):
        return {**empty, "verdict": verdict(record), "failure": record["failure"]}
    before, after = _open(bench, record, "source"), _open(bench, record, "counterfactual")
    measured = values.get(str(record["digest"]), {})
    facts = [(key, number(value)) for key, value in measured.items() if isinstance(value, float) and value == value]
    cell = {
        **empty,
        "verdict": verdict(record),
        "p": record["p_target_after"],
        "l1": record["l1"],
        "s": record["seconds"],
        "before": f"{record['p_target_before']:.2f}",
        "after": f"{record['p_target_after']:.2f}",
        "facts": facts,
    }
    if before is None or after is None:
        return cell
    uri, css = shrink(after)
    return {**cell, "uri": uri, "css": css, "difference": shrink(difference(before, after)[0], exact=False)[0]}


def _open(bench: Bench, record: Record, name: str) -> Image.Image | None:
    from counterlens.core.runs.report import opened

    return opened(bench.run.path / "items" / str(record["digest"]) / f"{name}.png")
