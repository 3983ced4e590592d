"""``counterlens bench``: methods side by side, by one protocol, on one machine or many."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from counterlens.cli import options, render

if TYPE_CHECKING:
    from counterlens.benchmarks.run_suite import Workers

SHOWN = ("flip_rate", "judge_agreement", "l1", "changed_area", "lpips", "unet_evaluations", "seconds")


@click.command(cls=options.LoadsPipeline)
@click.option("--suite", "-s", metavar="NAME", help="A suite, or the path of its YAML file; see: bench --list.")
@click.option("--data", metavar="URI", help="Any data with the default protocol: domain:NAME, folder:DIR, …")
@click.option("--methods", "-m", default="all", show_default=True, metavar="A,B", help="Methods, or all.")
@click.option("--controls", metavar="A,B", help="Control rows; the suite's if not given, none for none.")
@options.data
@click.option("--limit", "-n", type=click.IntRange(1), help="Images; the suite's if not given.")
@click.option("--metric", "metrics", multiple=True, metavar="'NAME k=v'", help="A metric instead of the suite's.")
@click.option("--skip-unavailable", is_flag=True, help="Leave out metrics whose weights are missing.")
@click.option("--classifier", metavar="URI", help="The classifier to explain, instead of the suite's.")
@click.option("--judge", metavar="URI", help="The judge, instead of the suite's.")
@click.option("--seed", type=click.IntRange(0), help="Seed of all noise; the suite's if not given.")
@click.option("--draws", type=click.IntRange(1), help="Counterfactuals of each image, for diversity; 1 if not given.")
@click.option("--steps", type=click.IntRange(1, 1000), help="Steps of every method's trajectory.")
@click.option("--batch", type=click.IntRange(1), help="Images solved together; the suite's if not given.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="Who works.")
@click.option("--workers", type=click.IntRange(1), help="Processes: one a GPU or CPU core if not given.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads of each worker.")
@click.option("--address", metavar="HOST:PORT", help="A Ray cluster; one is started on this machine if not given.")
@click.option("--out", type=click.Path(file_okay=False), default="runs", show_default=True, help="Folder of runs.")
@click.option(
    "--again",
    type=click.Choice(["never", "missing", "always"]),
    default="missing",
    show_default=True,
    help="What a second call does with finished items: only measure them, do the missing ones, do all.",
)
@click.option("--retry", is_flag=True, help="Do failed items again.")
@click.option("--force", is_flag=True, help="Go on with networks that were trained on the images; the report says so.")
@click.option("--list", "list_", is_flag=True, help="List the suites.")
@options.as_json
@options.quiet
@click.pass_context
def bench(ctx: click.Context, list_: bool, as_json: bool, quiet: bool, **how: Any) -> None:
    """Compare methods on a suite: every image counts, failures are rows, controls stand beside the methods.

    The images are those of --split (the suite's own part, else test), divided as train and explain divide them, so
    that none was trained on. Numbers come with n, population and a 95 % interval, under the hash of the protocol. A
    run that was interrupted goes on where it was, with any number of workers. Under torchrun or in a Slurm array
    several calls with the same options share one folder. Exit code 1: items failed.
    """
    if list_:
        _list(as_json)
        return
    render.quieten()
    with render.progress(quiet) as meter:
        summary = run(how, meter)
    if as_json:
        render.emit_json(summary)
    else:
        show(summary)
    ctx.exit(1 if summary.get("failed") else 0)


def run(how: Mapping[str, Any], meter: Any) -> dict[str, Any]:
    """Plan, work, measure; what the command ends with."""
    from counterlens.benchmarks.run_suite import Hearing, run_suite

    planning = {name: how[name] for name in ("skip_unavailable", "force", "steps")}
    return run_suite(
        options.registry(),
        suite_of(how),
        _names(how["methods"]),
        how["out"],
        workers_of(how),
        Hearing(meter, meter.note),
        again=how["again"],
        retry=how["retry"],
        controls=None if how["controls"] is None else _names(how["controls"].replace("none", "")),
        **planning,
        **where(how),
    )


def workers_of(how: Mapping[str, Any]) -> Workers:
    """Who works, as asked for."""
    from counterlens.benchmarks.run_suite import Workers

    return Workers(how["engine"], how["workers"], how["threads"], how["address"])


def suite_of(how: Mapping[str, Any]) -> Any:
    """The suite of --suite or --data, with the options that change its protocol."""
    from counterlens.benchmarks.protocol import suite

    if how["suite"] and how["data"]:
        raise click.UsageError("give --suite or --data, not both")
    found = suite.of_data(how["data"]) if how["data"] else suite.suite(how["suite"] or "smoke")
    from counterlens.core.models.model_options import PipelineOptions

    names = ("limit", "classifier", "judge", "seed", "batch", "draws", *PipelineOptions.model_fields)
    changes = {name: how.get(name) for name in names}
    return found.with_(**changes, **_data_of(found, how), metrics=tuple(how["metrics"]) or None)


def where(how: Mapping[str, Any]) -> dict[str, Any]:
    """Where pipelines run, as far as it is given; what they are is the protocol's."""
    from counterlens.core.models.model_options import WHERE

    return {name: how[name] for name in WHERE if name in how}


def _data_of(suite: Any, how: Mapping[str, Any]) -> dict[str, Any]:
    """Which images, and how they are read: what the URI says itself stays, as in ``explain`` and ``train``."""
    from counterlens.core.errors import UsageError
    from counterlens.core.utils.uri import parse_uri

    given = {key: how[key] for key in options.DATA}
    own = how["data"] and "split" in parse_uri(how["data"]).options
    split = None if own else given["split"]
    uri, others = suite.protocol.data, {**given, "split": None}
    if parse_uri(uri).scheme == "domain":
        if named := [key for key, value in others.items() if value]:
            option = named[0].replace("_", "-")
            raise UsageError(f"--{option} is about folder:DIR, csv:FILE, npz:FILE and the like; {uri} is as it is")
        return {"split": split}
    return {"split": split, "data": options.refine(uri, others)}


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _list(as_json: bool) -> None:
    from counterlens.benchmarks.protocol import suite

    found = [suite.suite(name) for name in suite.names()]
    rows = [{"name": one.name, "images": one.protocol.limit, "summary": one.summary} for one in found]
    render.rows(rows, ("name", "images", "summary"), as_json)


def show(summary: Mapping[str, Any]) -> None:
    """The table of the terminal, and where everything is."""
    if "rows" in summary:
        from counterlens.benchmarks.report import table

        names, metrics, cells = table.grid(summary)
        chosen = metrics if len(metrics) <= len(SHOWN) else [metric for metric in SHOWN if metric in metrics]
        rows = [{"method": n, **{m: table.cell(cells.get((n, m))) for m in chosen}} for n in names]
        render.rows(rows, ("method", *chosen), False, "no item is finished")
        click.echo(table.caption(summary))
        for name, why in summary["skipped"].items():
            click.echo(f"not run: {name}: {why}", err=True)
    click.echo(f"report: {summary['report']}" if "report" in summary else f"run: {Path(summary['run'])}")
