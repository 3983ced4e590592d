"""One request under every method that its pipelines serve, side by side in one folder; which cannot, and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from counterlens.core.engine.prepare import Prepared, prepare
from counterlens.core.engine.request import Request, gather
from counterlens.core.engine.session import Session
from counterlens.core.errors import CounterlensError, PlanError, UsageError
from counterlens.core.models.pool import Pool
from counterlens.core.utils.digest import digest
from counterlens.core.utils.files import explained, plain, write_atomic

if TYPE_CHECKING:
    from PIL import Image

    from counterlens.core.engine.solver import Progress
    from counterlens.core.plugin.registry import Registry
    from counterlens.core.problem.method import Method

Notice = Callable[[str], None]
COLUMNS = 12  # images of the sheet
SIDE = 128


@dataclass
class AllMethods:
    """``able``: what was prepared, by method, controls last; ``unable``: why a method cannot, by method."""

    request: Request
    able: dict[str, Prepared] = field(default_factory=dict)
    unable: dict[str, str] = field(default_factory=dict)


def prepare_all(request: Request, registry: Registry, notice: Notice = lambda _: None) -> AllMethods:
    """Every method of the registry prepared for the request; UsageError when not one of them can run."""
    asked, found = gather(request, registry, notice), AllMethods(request)
    methods: Mapping[str, Method] = registry.entries["method"]
    for name, method in sorted(methods.items(), key=lambda one: (one[1].control, one[0])):
        if method.aside:
            found.unable[name] = "runs only when it is named"
            continue
        one = request.model_copy(update={"method": name})
        try:
            found.able[name] = prepare(one, registry, asked, method=method)
        except PlanError as error:
            found.unable[name] = str(error)
    if not found.able:
        raise UsageError(f"no method can work with these pipelines: {next(iter(found.unable.values()))}")
    return found


def run_all(
    every: AllMethods,
    registry: Registry,
    out: Path,
    again: str = "missing",
    progress: Progress = lambda *_: None,
    notice: Notice = lambda _: None,
) -> Iterator[dict[str, Any]]:
    """The records of all methods, one after the other; ``folder_of(every, out)`` gets a run for each of them.

    A method that fails as a whole is told to ``notice`` and put among those that cannot; the others go on.
    """
    session, folder = Session(registry, Pool()), folder_of(every, out)
    records: dict[str, list[dict[str, Any]]] = {}
    failed: list[CounterlensError] = []
    for name, prepared in list(every.able.items()):
        told = lambda what, done, total, name=name: progress(f"{name}: {what}", done, total)  # noqa: E731
        try:
            for record in session.run(prepared, folder / name, again, told, notice if not records else lambda _: None):
                records.setdefault(name, []).append(record)
                yield {"method": name, **record}
        except CounterlensError as error:
            failed.append(error)
            every.unable[name] = str(error)
            notice(f"{name}: {error}")
        if records:
            write_summary(every, records, folder)
    if failed and not records:
        raise failed[0]


def folder_of(every: AllMethods, out: Path) -> Path:
    """The folder of this request, the same for a second call."""
    about = {"settings": every.request.settings(), "images": every.request.images, "target": every.request.target}
    return out / f"all-{digest(about)[:8]}"


def write_summary(every: AllMethods, records: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path) -> None:
    """``methods.json`` and the sheet ``methods.png``: sources above what each method made of them."""
    content = {"methods": [summary(name, rows) for name, rows in records.items()], "cannot": every.unable}
    with explained(folder):
        write_atomic(folder / "methods.json", (json.dumps(plain(content), indent=1) + "\n").encode())
        sheet(records).save(folder / "methods.png")


def summary(name: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One row: shares of all images asked for, and means over those that have a picture.

    ``judge_agreement`` is the share of the flipped that the judge decides as the target too.
    """
    flipped = [r for r in records if r["flipped"]]
    made = [r for r in records if r["counterfactual"]]
    return {
        "method": name,
        "images": len(records),
        "failures": sum(bool(r["failure"]) for r in records),
        "flip_rate": round(len(flipped) / len(records), 4),
        "judge_agreement": _mean(flipped, "judge_flipped"),
        "l1": _mean(made, "l1"),
        "changed_area": _mean(made, "changed_area"),
        "unet_evaluations": _mean(made, "unet_evaluations"),
        "seconds": _mean(made, "seconds"),
    }


def _mean(records: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [float(r[key]) for r in records if r.get(key) is not None]
    return round(fmean(values), 4) if values else None


def sheet(records: Mapping[str, Sequence[Mapping[str, Any]]]) -> Image.Image:
    """The first images as they were, and below one row a method; what it has no picture of stays grey."""
    from PIL import Image, ImageDraw

    first = next(iter(records.values()))[:COLUMNS]
    grid = Image.new("RGB", (SIDE * (len(first) + 1), SIDE * (len(records) + 1)), (40, 40, 40))
    draw = ImageDraw.Draw(grid)
    rows: list[tuple[str, list[Any]]] = [("source", [_source(records, k) for k in range(len(first))])]
    rows += [(name, [r["counterfactual"] for r in found[:COLUMNS]]) for name, found in records.items()]
    for y, (name, pictures) in enumerate(rows):
        draw.text((6, SIDE * y + SIDE // 2 - 5), name, fill=(230, 230, 230))
        for x, path in enumerate(pictures):
            if path and Path(path).is_file():
                picture = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
                grid.paste(picture, (SIDE * (x + 1), SIDE * y))
    return grid


def _source(records: Mapping[str, Sequence[Mapping[str, Any]]], k: int) -> Path | None:
    """The source's file lies beside the counterfactual of any method that has one."""
    found = (Path(rows[k]["counterfactual"]) for rows in records.values() if rows[k]["counterfactual"])
    return next((path.with_name("source.png") for path in found), None)
