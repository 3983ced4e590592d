"""``counterlens explain``: counterfactuals of pictures, one record each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from counterlens.cli import options, render

COLUMNS = ("image", "source", "target", "flipped", "p_target_before", "p_target_after", "judge_flipped", "l1")
COSTS = ("unet_evaluations", "seconds")
UNFLIPPED = 3


@click.command(cls=options.LoadsPipeline)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE…")
@click.option("--target", "-t", metavar="CLASS", help="The class to turn into; the runner-up if not given.")
@options.composition
@options.explained
@click.option("--prompt", help="Words for the source image, for text-conditioned pipelines.")
@click.option("--directions", metavar="FILE", help="Directions of: counterlens directions find; for h-space.")
@click.option("--captioner", metavar="'NAME k=v'", help="Captions for images without one; see: counterlens caption.")
@click.option("--map", type=click.Path(), help="Change map: a grey picture, white may change.")
@click.option(
    "--fit", type=click.Choice(["crop", "pad", "squash"]), default="crop", show_default=True, help="Make it square by."
)
@options.data
@options.run
@options.batch
@click.option("--errors", is_flag=True, help="Only misclassified images; the target is each one's own label.")
@click.option("--cache", is_flag=True, help="Find inversions in the cache, and keep new ones (counterlens invert).")
@click.option("--force", is_flag=True, help="Go on with a classifier that looks broken.")
@click.option("--dry-run", is_flag=True, help="Check everything and print the plan; load no weights.")
@options.as_json
@options.quiet
@click.pass_context
def explain(
    ctx: click.Context,
    images: tuple[str, ...],
    out: str,
    again: str,
    dry_run: bool,
    cache: bool,
    as_json: bool,
    quiet: bool,
    **how: Any,
) -> None:
    """Make the nearest realistic images that the classifier decides otherwise.

    An IMAGE is a picture's path, NAME:INDEX of an embedded domain, such as shapes:0, or labelled images: folder:DIR,
    csv:FILE, npz:FILE, of which --split test are those that no training saw. Files go into a run folder below --out,
    with a report.html that opens offline. --method all: every method that the pipeline serves, side by side. Exit code
    3: at least one image did not flip.
    """
    images = _with_data(images, {key: how.pop(key) for key in options.DATA})
    if how["method"] == "all":
        from counterlens.cli.commands.explain_all import explain_all

        ctx.exit(explain_all({"images": images, **how}, out, again, dry_run, as_json, quiet))
    request = {"images": images, **how}
    if dry_run:
        show_plan(request, as_json)
        return
    records = run(request, out, again, as_json, quiet, cache)
    if not as_json:
        finish(records)
    ctx.exit(code_of(records))


def _with_data(images: tuple[str, ...], values: dict[str, Any]) -> tuple[str, ...]:
    """Labelled images with the options that say which of them, and how they are read."""
    from counterlens.core.errors import UsageError

    is_data = options.registry().is_data
    if any(values.values()) and not any(is_data(image) for image in images):
        given = next(key for key, value in values.items() if value).replace("_", "-")
        raise UsageError(f"--{given} is about labelled images: give folder:DIR, csv:FILE or npz:FILE")
    return tuple(options.refine(image, values) if is_data(image) else image for image in images)


def run(
    request: Mapping[str, Any], out: str, again: str, as_json: bool, quiet: bool, cached: bool = False
) -> list[dict[str, Any]]:
    """The records of a request; with ``as_json`` each is printed when it is there."""
    loaded = options.registry()
    render.quieten()
    with render.progress(quiet) as meter:
        from counterlens.core.engine.session import explain as explained
        from counterlens.core.utils.tensor_cache import Cache

        records = []
        how: dict[str, Any] = {"out": out, "again": again, "cache": Cache() if cached else None}
        found = explained(_request(request), loaded, on_progress=meter, on_notice=meter.note, **how)
        for record in found:
            records.append(record)
            for note in record.get("notes", ()):
                meter.note(f"{record['image']}: {note}")
            if as_json:
                render.emit_json(record)
    return records


def code_of(records: list[dict[str, Any]]) -> int:
    """0 when every image flipped, 1 when all of them failed, else 3."""
    if records and all(record["failure"] for record in records):
        return 1
    return 0 if all(record["flipped"] for record in records) else UNFLIPPED


def finish(records: list[dict[str, Any]]) -> None:
    """The table, the failures, and where the files are."""
    seen = [record for record in records if record.get("trained_on")]  # said in the notes of each, too
    columns = (*COLUMNS, *COSTS, *(["trained_on"] if seen else []))
    render.rows(records, columns, False, "no finished image (with --again never nothing is computed)")
    for record in records:
        if record["failure"]:
            name = "" if record["failure"].startswith(record["image"]) else f"{record['image']}: "
            click.echo(f"{name}{record['failure']}", err=True)
    if seen:
        click.echo(f"{len(seen)} of {len(records)} are training images, which say nothing about new ones", err=True)
    if folder := next((run_of(record) for record in records if record["counterfactual"]), None):
        click.echo(f"report: {folder / 'report.html'}")


def run_of(record: Mapping[str, Any]) -> Path:
    """The run folder of a record: the counterfactual lies in ``RUN/items/DIGEST/``."""
    return Path(record["counterfactual"]).parents[2]


def show_plan(request: Mapping[str, Any], as_json: bool) -> None:
    """What would run: the settings and the rows of the plan. Nothing heavy is loaded."""
    from counterlens.core.engine.prepare import prepare, summary
    from counterlens.core.pieces.options import written

    prepared = prepare(_request(request), options.registry())
    head = dict(summary(prepared))
    plan = [vars(row) for row in prepared.plan]
    if as_json:
        render.emit_json({**head, "plan": plan})
        return
    render.fields(head, False)
    shown = [{**row, "options": " ".join(f"{k}={written(v)}" for k, v in row["options"].items())} for row in plan]
    render.table(shown, ("kind", "name", "options", "needs", "gives"))


def _request(values: Mapping[str, Any]) -> Any:
    from counterlens.core.engine.request import Request

    return Request(**values)
