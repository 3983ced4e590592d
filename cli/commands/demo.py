"""``counterlens demo``: every method on the embedded domains, one table, one report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import click

from counterlens.cli import options, render

if TYPE_CHECKING:
    from counterlens.core.data.domain import Domain
    from counterlens.core.engine.session import Session

TITLE = "Why did the classifier decide so? Methods side by side"
COLUMNS = ("domain", "method", "flip", "target probability", "judge", "L1", "U-Net evaluations", "seconds")


@click.command(cls=options.LoadsPipeline)
@click.option(
    "--out", type=click.Path(file_okay=False), default="counterlens-demo", show_default=True, help="Folder of results."
)
@click.option("--methods", metavar="A,B", help="Only these methods; all but the controls if not given.")
@click.option("--domains", metavar="A,B", help="Only these domains.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of all noise.")
@options.as_json
@options.quiet
@click.pass_context
def demo(
    ctx: click.Context, out: str, methods: str | None, domains: str | None, as_json: bool, quiet: bool, **how: Any
) -> None:
    """Explain a few images of every embedded domain with every method; needs no network and no GPU.

    Prints a table and the path of one HTML report with the pictures side by side. A method that fails is a row with
    the reason. Exit code 0 also where images did not flip: the table shows it.
    """
    chosen = _chosen("domain", domains), _chosen("method", methods)
    render.quieten()
    blocks = []
    with render.progress(quiet) as meter:
        from counterlens.core.engine.session import Session

        session = Session(options.registry())
        try:
            for name in chosen[0]:
                stage = Stage(session=session, name=name, out=Path(out), how=how, meter=meter)
                blocks.append(stage.block(chosen[1], as_json))
        finally:
            report = _report(Path(out), blocks)
    _finish(blocks, report, as_json)
    if not any(line["ran"] for block in blocks for line in block["summary"]):
        ctx.exit(1)


@dataclass
class Stage:
    """A domain on which methods are shown, with the networks that they share."""

    session: Session
    name: str
    out: Path
    how: Mapping[str, Any]
    meter: Any
    said: set[str] = field(default_factory=set)

    @property
    def domain(self) -> type[Domain]:
        return self.session.registry.domain(self.name)

    def block(self, methods: Sequence[str], as_json: bool) -> dict[str, Any]:
        """All methods on this domain's images: rows of the report and lines of the table."""
        images = {index: self.domain.sample(index) for index in self.domain.demo_indices}
        targets = {f"{self.name}:{i}": self.domain.target_for(one.label) for i, one in images.items()}
        columns = {method: self.column(method, targets, as_json) for method in methods}
        rows = [
            {
                "image": image,
                "source": images[index].label,
                "target": targets[image],
                "pixels": images[index].pixels,
                "cells": [columns[method][image] for method in methods],
            }
            for image, index in zip(targets, images, strict=True)
        ]
        lines = [summary(self.name, method, list(column.values())) for method, column in columns.items()]
        return {"name": self.name, "methods": list(methods), "rows": rows, "summary": lines}

    def column(self, method: str, targets: Mapping[str, str], as_json: bool) -> dict[str, dict[str, Any]]:
        """One method's record of every image; what cannot run is a record with the reason."""
        from counterlens.core.errors import CounterlensError

        found: dict[str, dict[str, Any]] = {}
        for target in dict.fromkeys(targets.values()):
            images = [image for image, wanted in targets.items() if wanted == target]
            try:
                found |= {record["image"]: record for record in self.records(method, target, images)}
            except CounterlensError as error:
                failed = {"method": method, "target": target, "flipped": False, "failure": str(error)}
                found |= {image: {"image": image, **failed} for image in images if image not in found}
        if as_json:
            for record in found.values():
                render.emit_json({"domain": self.name, **record})
        return found

    def _note(self, line: str) -> None:
        """The same words of several methods are said once."""
        if line not in self.said:
            self.said.add(line)
            self.meter.note(line)

    def records(self, method: str, target: str, images: Sequence[str]) -> Iterator[dict[str, Any]]:
        from counterlens.core.engine.prepare import prepare
        from counterlens.core.engine.request import Request

        request = Request(images=tuple(images), target=target, method=method, **self.how)
        prepared = prepare(request, self.session.registry)
        yield from self.session.run(prepared, self.out / "runs", "missing", self.meter, self._note)


def summary(domain: str, method: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A line of the table: shares and means over the images that ran, and the first reason of those that did not."""
    ran = [record for record in records if not record["failure"]]
    flipped = [record for record in ran if record["flipped"]]
    judged = [record for record in flipped if record["judge_flipped"] is not None]

    def mean(key: str) -> float | None:
        return fmean(record[key] for record in ran) if ran else None

    return {
        "domain": domain,
        "method": method,
        "ran": len(ran),
        "flip": f"{len(flipped)} of {len(records)}",
        "target probability": mean("p_target_after"),
        "judge": f"{sum(bool(r['judge_flipped']) for r in judged)} of {len(judged)}" if judged else None,
        "L1": mean("l1"),
        "U-Net evaluations": mean("unet_evaluations"),
        "seconds": mean("seconds"),
        "failure": next((record["failure"] for record in records if record["failure"]), None),
    }


def _chosen(kind: str, names: str | None) -> list[str]:
    """The domains or methods asked for; without names all, methods that are controls left out."""
    loaded = options.registry()
    if names:
        return [name for name in names.split(",") if loaded.get(kind, name)]
    known = sorted(loaded.entries[kind])
    return [name for name in known if not getattr(loaded.get(kind, name), "control", False)]


def _report(out: Path, blocks: Sequence[Mapping[str, Any]]) -> Path:
    from counterlens.core.runs.report import write_comparison

    hidden = ("domain", "ran")
    shown = [
        {**block, "table": [{k: v for k, v in line.items() if k not in hidden} for line in block["summary"]]}
        for block in blocks
    ]
    return write_comparison(out / "report.html", TITLE, shown)


def _finish(blocks: Sequence[Mapping[str, Any]], report: Path, as_json: bool) -> None:
    lines = [line for block in blocks for line in block["summary"]]
    if as_json:
        render.emit_json({"report": str(report), "table": lines})
        return
    failures = any(line["failure"] for line in lines)
    render.rows(lines, (*COLUMNS, *(("failure",) if failures else ())), False, "no domain is installed")
    click.echo(f"report: {report}")
