"""``counterlens tune``: hyper-parameters of a method, chosen on one split and reported on the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from counterlens.cli import options, render
from counterlens.cli.commands import bench as benches

if TYPE_CHECKING:
    from counterlens.core.problem.method import Method


@click.command(cls=options.LoadsPipeline)
@click.argument("method")
@click.option("--suite", "-s", metavar="NAME", help="A suite, or the path of its YAML file; see: bench --list.")
@click.option("--data", metavar="URI", help="Any data with the default protocol: domain:NAME, folder:DIR, …")
@click.option("--budget", "-b", type=click.IntRange(1), required=True, help="Trials; the first is the method as it is.")
@options.data
@click.option("--limit", "-n", type=click.IntRange(1), help="Images of each split; the suite's if not given.")
@click.option("--knob", "knobs", multiple=True, metavar="NAME=LOW:HIGH", help="Search only these, in this range.")
@click.option("--weight", type=click.FloatRange(0), default=1.0, show_default=True, help="Of distance, against flips.")
@click.option("--classifier", metavar="URI", help="The classifier to explain, instead of the suite's.")
@click.option("--judge", metavar="URI", help="The judge, instead of the suite's; it takes no part in the search.")
@click.option("--seed", type=click.IntRange(0), help="Seed of all noise and of the search.")
@click.option("--steps", type=click.IntRange(1, 1000), help="Steps of the trajectory.")
@click.option("--batch", type=click.IntRange(1), help="Images solved together; the suite's if not given.")
@click.option("--workers", type=click.IntRange(1), help="Processes: one a GPU or CPU core if not given.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads of each worker.")
@click.option("--out", type=click.Path(file_okay=False), default="runs", show_default=True, help="Folder of runs.")
@click.option("--force", is_flag=True, help="Go on with networks that were trained on the images; the report says so.")
@click.option("--list", "list_", is_flag=True, help="List the numbers that would be searched, and their ranges.")
@options.as_json
@options.quiet
def tune(method: str, list_: bool, as_json: bool, quiet: bool, **how: Any) -> None:
    """Search the numbers of METHOD's pieces for more flips at less distance.

    Every trial works on the suite's selection split (validation, if it has none) and never sees the judge; at the end
    the method as it was and the best one are measured on the report split (--split), with intervals and paired tests.
    The best one is written as a YAML file that --method and --methods take. A search that was stopped takes up its
    finished trials.
    """
    from counterlens.benchmarks import tune as tuning

    loaded = options.registry()
    found = tuning.knobs(loaded.method(method), loaded, _ranges(how["knobs"]))
    if list_:
        rows = [{"knob": knob.name, "low": knob.low, "high": knob.high} for knob in found]
        render.rows(rows, ("knob", "low", "high"), as_json, "no number to search")
        return
    render.quieten()
    with render.progress(quiet) as meter:
        summary = run(loaded.method(method), found, how, meter)
    if as_json:
        render.emit_json(summary)
        return
    rows = [{key: trial.get(key) for key in ("trial", "objective", "flip_rate", "l1")} for trial in summary["trials"]]
    render.table(rows, ("trial", "objective", "flip_rate", "l1"))
    benches.show(summary["report"])
    click.echo(f"best: {summary['best']}")


def run(method: Any, found: Any, how: Mapping[str, Any], meter: Any) -> dict[str, Any]:
    """Search, then report; what the command ends with."""
    from counterlens.benchmarks import tune as tuning

    loaded = options.registry()
    asked = {**how, "metrics": (), "engine": "local", "address": None}
    suite = benches.suite_of(asked)
    if suite.protocol.selection_split == suite.protocol.split:
        raise click.UsageError("the suite chooses and reports on the same split: give it a selection_split of its own")

    def score(candidate: Any) -> dict[str, float]:
        trial = candidate.model_copy(update={"name": f"{candidate.name}-trial"})
        chosen = suite.with_(split=suite.protocol.selection_split, metrics=("flip_rate", "l1"))
        done = _bench(chosen, [trial], (), asked, meter)
        return tuning.objective(done.records()[trial.name], how["weight"])

    study = tuning.search(method, found, score, how["budget"], loaded, how["seed"] or 0)
    best = type(method)(**{**study.best_trial.user_attrs["method"], "name": f"{method.name}-tuned"})
    path = tuning.write_method(best, Path(how["out"]) / f"{best.name}.yaml")
    report = _report(suite, [method, best], asked, meter)
    trials = [{"trial": t.number, **t.params, **_figures(t.user_attrs)} for t in study.trials]
    best_trial = study.best_trial.number
    return {"method": method.name, "best": str(path), "trial": best_trial, "trials": trials, "report": report}


def _figures(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if key != "method"}


def _bench(suite: Any, methods: list[Method], controls: tuple[str, ...], how: Mapping[str, Any], meter: Any) -> Any:
    """A finished run of these methods."""
    from counterlens.benchmarks.protocol.plan import plan
    from counterlens.benchmarks.run_suite import work
    from counterlens.benchmarks.running import launch, runner
    from counterlens.core.engine.session import Session

    session = Session(options.registry())
    planned = plan(
        suite, methods, session, controls=controls, force=how["force"], steps=how["steps"], **benches.where(how)
    )
    bench = runner.start(planned, how["out"])
    work(bench, benches.workers_of(how), launch.LaunchRank(), session.registry, meter)
    return bench


def _report(suite: Any, methods: list[Method], how: Mapping[str, Any], meter: Any) -> dict[str, Any]:
    from counterlens.benchmarks.report.summary import conclude

    return conclude(_bench(suite, methods, suite.controls, how, meter), options.registry())


def _ranges(texts: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """``NAME=LOW:HIGH`` as numbers."""
    found = {}
    for text in texts:
        name, _, numbers = text.rpartition("=")
        low, _, high = numbers.partition(":")
        try:
            found[name] = (float(low), float(high))
        except ValueError:
            raise click.UsageError(f"--knob {text!r}: write NAME=LOW:HIGH") from None
        if not name or not found[name][0] < found[name][1]:
            raise click.UsageError(f"--knob {text!r}: write NAME=LOW:HIGH, the lower number first")
    return found
