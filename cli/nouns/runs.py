"""``counterlens runs``: what was run, where, and with what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from counterlens.cli import options, render

if TYPE_CHECKING:
    from counterlens.core.runs.folder import Run

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
    from counterlens.core.runs.folder import list_runs

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
    from counterlens.core.engine.session import sections_of
    from counterlens.core.runs.report import write_report

    found = opened(run, out)
    if found.manifest.get("kind") == "bench":
        from counterlens.benchmarks.protocol.bench import Bench
        from counterlens.benchmarks.report.summary import conclude

        summary = conclude(Bench.of(found), options.registry())
        known = ("report", "asked", "finished", "failed")
        render.fields({key: summary[key] for key in known}, as_json)
        return
    records = records_of(found)
    sections = sections_of(options.registry(), found.manifest, records)
    path = write_report(found.path, found.manifest, records, sections)
    render.fields({"report": str(path)}, as_json)


@runs.command()
@click.argument("run")
@where
@click.option("--redo", is_flag=True, help="Do what is missing or damaged again (runs of bench).")
@options.as_json
@options.quiet
@click.pass_context
def verify(ctx: click.Context, run: str, out: str, redo: bool, as_json: bool, quiet: bool) -> None:
    """Compare every file of a run with what was written. Exit code 1: items are missing or damaged."""
    from counterlens.benchmarks.report.verify import verify_run

    found = opened(run, out)
    if redo and found.manifest.get("kind") == "bench":
        _redo(found, quiet)
    elif redo:
        raise click.UsageError("--redo is for runs of bench; call explain again with the same options")
    checked = verify_run(found)
    render.fields(checked, as_json)
    ctx.exit(1 if checked["damaged"] or checked["missing"] else 0)


def _redo(run: Run, quiet: bool) -> None:
    """What is not whole counts as not finished, so that it is enough to go on with the run."""
    from counterlens.benchmarks.protocol.bench import Bench
    from counterlens.benchmarks.run_suite import Workers, work
    from counterlens.benchmarks.running.launch import LaunchRank

    render.quieten()
    with render.progress(quiet) as meter:
        work(Bench.of(run), Workers(), LaunchRank(), options.registry(), meter)


@runs.command()
@click.argument("first")
@click.argument("second")
@where
@options.as_json
def diff(first: str, second: str, out: str, as_json: bool) -> None:
    """Compare two runs of bench: which items are identical, and paired tests of what is not.

    Runs of different protocols are refused, with the difference.
    """
    from counterlens.benchmarks.protocol.bench import Bench
    from counterlens.benchmarks.report.verify import compared

    found = compared(Bench.of(opened(first, out)), Bench.of(opened(second, out)), options.registry())
    if as_json:
        render.emit_json(found)
        return
    render.fields({"protocol": found["protocol"][:12], **found["items"]}, False)
    rows = [row for row in found["rows"] if row["difference"]]
    render.rows(rows, ("method", "metric", "n", "difference", "p_holm"), False, "no metric differs")


@runs.command()
@click.argument("names", nargs=-1, required=True, metavar="RUN…")
@where
@options.as_json
def leaderboard(names: tuple[str, ...], out: str, as_json: bool) -> None:
    """Methods over several runs of bench by their mean rank; what is absent from a suite takes its last rank."""
    from counterlens.benchmarks.stats.leaderboard import leaderboard as ranked

    suites = {}
    for name in names:
        found = opened(name, out)
        suites[f"{found.manifest.get('suite')} ({found.name})"] = _table(found)
    render.rows(ranked(suites), ("method", "mean_rank", "first", "tables"), as_json, "no method has a number")


def _table(run: Run) -> list[dict[str, Any]]:
    """The rows of a run's table, as last written."""
    from counterlens.core.errors import UsageError

    try:
        return json.loads((run.path / "report.json").read_bytes())["rows"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{run.name}: no table of a benchmark; see: counterlens runs report {run.name}") from None


@runs.command()
@click.argument("run")
@where
@click.option("--to", type=click.Path(file_okay=False), help="Folder of the study; study in the run's if not given.")
@click.option("--questions", type=click.IntRange(1), default=40, show_default=True, help="Questions at most.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Which ones, in which order.")
@options.as_json
def study(run: str, out: str, to: str | None, questions: int, seed: int, as_json: bool) -> None:
    """A user study of a run of bench: a page with forced choices and a quiz, and the key apart from it."""
    from counterlens.benchmarks.protocol.bench import Bench
    from counterlens.benchmarks.report.user_study import export

    found = opened(run, out)
    folder = Path(to) if to else found.path / "study"
    render.fields(export(Bench.of(found), folder, questions, seed), as_json)


def opened(run: str, out: str) -> Run:
    """The run of a folder, or of a name (or its unique beginning) within ``out``; unknown names get the list."""
    from counterlens.core.errors import unknown
    from counterlens.core.runs.folder import Run, list_runs

    if (Path(run) / "manifest.json").exists():
        return Run.open(run)
    names = [found.name for found in list_runs(out)]
    matching = [name for name in names if name == run] or [name for name in names if name.startswith(run)]
    if len(matching) != 1:
        raise unknown(f"run in {out}", run, names)
    return Run.open(Path(out) / matching[0])


def records_of(run: Run) -> list[dict[str, Any]]:
    """The records of the images asked for, in that order: those finished, and those that failed as last reported."""
    asked = asked_of(run)
    failed = {record["digest"]: record for record in _reported(run) if record.get("failure")}
    return [record for digest in asked if (record := run.finished(digest) or failed.get(digest))]


def asked_of(run: Run) -> list[str]:
    """The digests of all items; those of a benchmark row by row."""
    items = run.manifest.get("items")
    if isinstance(items, dict):
        return [digest for found in items.values() for digest in found]
    return items or run.items()


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
        "asked": len(asked_of(run)),
        "finished": sum(not record.get("failure") for record in records),
        "failed": sum(bool(record.get("failure")) for record in records),
        "flipped": sum(bool(record.get("flipped")) for record in records),
    }
