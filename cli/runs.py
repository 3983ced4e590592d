"""``counterlens runs``: what was run, where, and with what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from counterlens.cli import options, render

if TYPE_CHECKING:
    from counterlens.core.run import Run

where = click.option(
    "--out", type=click.Path(file_okay=False), default="runs", show_default=True, help="Folder of runs."
)


@click.group(cls=options.Noun)
def runs() -> None:
    """Runs: folders with a manifest, pictures, records and a report."""


@runs.command("list")
@where
@options.as_json
def list_(out: str, as_json: bool) -> None:
    """All runs of a folder, newest first."""
    from counterlens.core.run import list_runs

    found = [_summary(run) for run in list_runs(out)]
    render.rows(
        found, ("name", "status", "method", "asked", "finished", "failed", "flipped"), as_json, f"no run in {out}"
    )


@runs.command()
@click.argument("run")
@where
@options.as_json
def show(run: str, out: str, as_json: bool) -> None:
    """A run's manifest and the records of its finished images. RUN is a folder, or its name within --out."""
    found = opened(run, out)
    manifest = {key: value for key, value in found.manifest.items() if key != "status"}
    whole = {**_summary(found), "manifest": manifest, "records": records_of(found)}
    if as_json:
        render.emit_json(whole)
        return
    render.fields({**_summary(found), "manifest": manifest}, False)
    columns = ("image", "source", "target", "flipped", "p_target_after", "judge_flipped", "l1", "seconds")
    render.rows(whole["records"], columns, False, "no image is finished")


@runs.command()
@click.argument("run")
@where
@options.as_json
def report(run: str, out: str, as_json: bool) -> None:
    """Write a run's report.html again, from what is in its folder."""
    from counterlens.core.report import sections_of, write_report

    found = opened(run, out)
    records = records_of(found)
    sections = sections_of(options.registry(), found.manifest, records)
    path = write_report(found.path, found.manifest, records, sections)
    render.fields({"report": str(path)}, as_json)


def opened(run: str, out: str) -> Run:
    """The run of a folder, or of a name (or its unique beginning) within ``out``; unknown names get the list."""
    from counterlens.core.errors import unknown
    from counterlens.core.run import Run, list_runs

    if (Path(run) / "manifest.json").exists():
        return Run.open(run)
    names = [found.name for found in list_runs(out)]
    matching = [name for name in names if name == run] or [name for name in names if name.startswith(run)]
    if len(matching) != 1:
        raise unknown(f"run in {out}", run, names)
    return Run.open(Path(out) / matching[0])


def records_of(run: Run) -> list[dict[str, Any]]:
    """The records of the images asked for, in that order: those finished, and those that failed as last reported."""
    asked = run.manifest.get("items") or run.items()
    failed = {record["digest"]: record for record in _reported(run) if record.get("failure")}
    return [record for digest in asked if (record := run.finished(digest) or failed.get(digest))]


def _reported(run: Run) -> list[dict[str, Any]]:
    """The records of report.json; failures are nowhere else."""
    try:
        return json.loads((run.path / "report.json").read_bytes())["records"]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _summary(run: Run) -> dict[str, Any]:
    method = run.manifest.get("method")
    records = records_of(run)
    return {
        "name": run.name,
        "path": str(run.path),
        "status": run.status,
        "method": method.get("name") if isinstance(method, dict) else method,
        "created": run.manifest.get("created"),
        "asked": len(run.manifest.get("items") or records),
        "finished": sum(not record.get("failure") for record in records),
        "failed": sum(bool(record.get("failure")) for record in records),
        "flipped": sum(bool(record.get("flipped")) for record in records),
    }
