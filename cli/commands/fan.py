"""``counterlens fan``: how much change does it take? One picture under a series of strengths, with numbers beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from counterlens.cli import options, render

COLUMNS = ("strength", "p_target", "l1", "l1_strip", "lpips", "flipped")
DEFAULT = "per-step strength=0.01"


@click.command(cls=options.LoadsPipeline)
@click.argument("image", metavar="IMAGE")
@click.option("--target", "-t", metavar="CLASS", help="The class to turn into; the runner-up if not given.")
@click.option("--strengths", default="0,0.2,0.4,0.6,0.8,1", show_default=True, help="Factors of the change map.")
@click.option("--vary", metavar="'MASKER k=v'", help="Change the strength of this region alone; the rest as it is.")
@click.option(
    "--preview", is_flag=True, help="Only the map, and the step in which each place is released; runs nothing."
)
@options.composition
@options.explained
@click.option("--prompt", help="Words for the source image, for text-conditioned pipelines.")
@click.option("--map", type=click.Path(), help="Change map: a grey picture of the image's size, white may change.")
@click.option("--fit", type=click.Choice(["crop", "pad", "squash"]), default="crop", show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of all noise.")
@click.option("--out", type=click.Path(dir_okay=False), default="fan.png", show_default=True, help="The picture.")
@options.batch
@options.as_json
@options.quiet
def fan(
    image: str, strengths: str, vary: str | None, preview: bool, out: str, as_json: bool, quiet: bool, **how: Any
) -> None:
    """Show one IMAGE under several strengths of its change map, in one batch, with the measured change of each.

    The sheet has a picture for each strength, the same strengths as strips of one picture, the map, and the step in
    which each place is released. The search is one walk at a fixed strength of guidance unless --search says otherwise.
    """
    rows = run(image, _numbers(strengths), vary, preview, Path(out), how, quiet)
    if preview:
        click.echo(f"preview: {out}", err=True)
        if as_json:
            render.emit_json({"preview": out})
        return
    render.rows(rows, COLUMNS, as_json, "no strength was given")
    click.echo(f"fan: {out}", err=True)


def run(
    image: str, strengths: list[float], vary: str | None, preview: bool, out: Path, how: dict[str, Any], quiet: bool
) -> list[dict[str, Any]]:
    """The rows of a fan; its sheet is written to ``out``."""
    from contextlib import ExitStack

    from counterlens.cli.sheets import write_fan, write_preview
    from counterlens.core.engine.prepare import prepare
    from counterlens.core.engine.request import Request
    from counterlens.core.engine.session import Session
    from counterlens.core.errors import UsageError
    from counterlens.core.problem.masker import Sources
    from counterlens.core.workflows.strength_fan import fan as fanned

    loaded = options.registry()
    render.quieten()
    if how["method"] == "guided" and not any(text.split()[0] == "change-map" for text in how["editors"]):
        how["method"] = "differential"
    if not how["search"] and how["method"] == "differential":
        how["search"] = DEFAULT
    prepared = prepare(Request(images=(image,), **how), loaded)
    if not any(editor.name == "change-map" for editor in prepared.composition.editors):
        raise UsageError(f"method {how['method']!r} has no change map: add --editor change-map")
    sources = Sources.read(vary, loaded.make) if vary else None
    if sources:
        sources.check(prepared.asked)
    with ExitStack() as stack, render.progress(quiet) as meter:
        desk, ready = Session(loaded).desk(stack, prepared, meter)
        if ready[0].failure:
            raise UsageError(ready[0].failure)
        problem = desk.problem(ready)
        if preview:
            write_preview(out, problem)
            return []
        made = fanned(problem, strengths, sources)
        rows = [{**row, **more} for row, more in zip(made.rows, _further(made, problem, loaded), strict=True)]
        write_fan(out, made, problem, rows)
    return rows


def _further(made: Any, problem: Any, loaded: Any) -> list[dict[str, Any]]:
    """Whether each flipped, and its LPIPS where the weights are on this machine."""
    from counterlens.core.metrics.context import Context
    from counterlens.core.metrics.evaluate import evaluate
    from counterlens.core.metrics.metric import CounterfactualPair

    metric, about = loaded.make("metric", "lpips"), Context(loaded)
    probabilities = problem.scene.resources.classifier.evaluate(made.pictures[:-1].to(problem.scene.image.device))
    flipped = probabilities.argmax(1) == problem.scene.target[0]
    found: list[Any] = [None] * len(made.rows)
    if not metric.missing(about):
        pairs = [
            CounterfactualPair({"digest": str(k)}, made.source, picture) for k, picture in enumerate(made.pictures[:-1])
        ]
        found = [row["lpips"] for row in evaluate([metric], pairs, about)]
    return [{"lpips": value, "flipped": bool(flip)} for value, flip in zip(found, flipped, strict=True)]


def _numbers(text: str) -> list[float]:
    from counterlens.core.errors import UsageError

    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = []
    if not found or not all(0 <= value <= 1 for value in found):
        raise UsageError(f"--strengths {text!r}: give numbers from 0 to 1, such as 0,0.5,1")
    return found
