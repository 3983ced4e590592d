"""``counterlens neurons``: what single units of a classifier say: top images, names, pictures of more and of less."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from counterlens.cli import options, render

if TYPE_CHECKING:
    from counterlens.core.workflows.unit_study import UnitStudy

UNIT = click.option("--unit", "units", type=click.IntRange(0), multiple=True, required=True, help="Unit; repeat.")
LAYER = click.option(
    "--layer", default="penultimate", show_default=True, help="Layer by name; penultimate: what enters the last one."
)
CLASSIFIER = click.option("--classifier", metavar="URI", help="The classifier; a domain's own if not given.")
SEED = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of all noise.")
BATCH = click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Rows in one call.")
TOP = click.option("--top", type=click.IntRange(1), default=9, show_default=True, help="Images a unit.")
OUT = click.option("--out", type=click.Path(file_okay=False), default="neurons", show_default=True, help="Folder.")
SAMPLING = options.together(
    click.option("--steps", type=click.IntRange(1, 1000), default=20, show_default=True, help="Of a sample."),
    click.option("--combiner", default="cfg scale=3", show_default=True, metavar="'NAME k=v'", help="Guidance."),
)


@click.group()
def neurons() -> None:
    """Look into a classifier: layers by name, units by number; a wrong layer or unit lists those that there are."""


@neurons.command(cls=options.LoadsClassifier)
@click.argument("data", metavar="DATA")
@LAYER
@click.option("--unit", "units", type=click.IntRange(0), multiple=True, help="Unit; repeat. All of them if none.")
@CLASSIFIER
@TOP
@OUT
@BATCH
@options.as_json
def activations(
    data: str, layer: str, units: tuple[int, ...], classifier: str | None, top: int, out: str, as_json: bool, **how: Any
) -> None:
    """Which images of DATA a unit says most of, and where it looks (HiResCAM).

    Writes activations.safetensors (all images, all units) and, for units that are named, a sheet each.
    """
    from counterlens.cli.sheets import write_sheet
    from counterlens.core.workflows import explain_units as work

    with _study(data, classifier, **how) as study:
        table = study.table(layer)
        table.check(units)
        table.save(Path(out) / "activations.safetensors")
        rows = [table.summary(unit, top) for unit in units or range(table.values.shape[1])]
        for unit in units:
            path = Path(out) / f"unit-{unit}.png"
            write_sheet(path, work.top_sheet(study, table, unit, top))
            rows[units.index(unit)]["sheet"] = str(path)
    columns = ("unit", "mean", "std", "max", "class", "class_mean", *(("sheet",) if units else ()))
    render.rows(rows, columns, as_json)


@neurons.command(cls=options.LoadsPipeline)
@click.argument("data", metavar="DATA")
@LAYER
@UNIT
@CLASSIFIER
@click.option(
    "--captioner", metavar="'NAME k=v'", help="What describes the top images; a domain's own captions if none."
)
@click.option("--words", default="", help="Words to try, a,b,c, instead of those of captions.")
@click.option("--least", type=click.IntRange(1), default=1, show_default=True, help="Captions a word must be in.")
@click.option("--most", type=click.IntRange(1), default=12, show_default=True, help="Words that are tried.")
@click.option("--images", "count", type=click.IntRange(1), default=8, show_default=True, help="Pictures a word.")
@click.option("--prompt", default="a photo of a {}", show_default=True, help="Around a word.")
@TOP
@SAMPLING
@SEED
@OUT
@BATCH
@options.as_json
@options.quiet
def name(data: str, units: tuple[int, ...], classifier: str | None, as_json: bool, quiet: bool, **how: Any) -> None:
    """Name units: words of the captions of their top images, ranked by the mean activation of pictures made of them.

    Every word is drawn from the same noises, so that words are compared; the empty prompt is the row to compare with.
    """
    from counterlens.cli.sheets import write_sheet
    from counterlens.core.workflows import explain_units as work

    rows = []
    batch, out, networks = how.pop("batch"), Path(how.pop("out")), options.model_options(how)
    with _study(data, classifier, batch=batch, device=networks.device) as study, render.progress(quiet):
        table = study.table(how.pop("layer"))
        table.check(units)
        for unit in units:
            found, sheet = work.name_unit(study, table, unit, networks, **how)
            path = out / f"unit-{unit}-words.png"
            write_sheet(path, sheet)
            rows += [{**row, "sheet": str(path)} for row in found]
    render.rows(rows, ("unit", "rank", "word", "captions", "activation", "std", "n"), as_json)


MORE = options.together(
    LAYER,
    UNIT,
    click.option("--classifier", metavar="URI", help="The classifier; a domain's own if not given."),
    click.option("--iterations", type=click.IntRange(1), default=20, show_default=True, help="Of the descent."),
    click.option("--steps", type=click.IntRange(1, 1000), default=10, show_default=True, help="Of the trajectory."),
    click.option(
        "--inverter", default="direct", show_default=True, metavar="'NAME k=v'", help="How images are inverted."
    ),
    click.option("--combiner", default="cfg scale=1", show_default=True, metavar="'NAME k=v'", help="Guidance."),
    click.option("--regularizer", "regularizers", multiple=True, metavar="'NAME k=v'", help="Penalty; repeat."),
    click.option("--editor", "editors", multiple=True, metavar="'NAME k=v'", help="Add an editor; repeat."),
    click.option("--prompt", help="Words for the pictures."),
    SEED,
    click.option("--out", type=click.Path(file_okay=False), default="neurons", show_default=True, help="Folder."),
    click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Rows in one network call."),
    options.as_json,
    options.quiet,
)
SHOWN = ("image", "unit", "sign", "before", "after", "class_before", "class_after", "l1", "note", "picture")


@neurons.command(cls=options.LoadsPipeline)
@click.argument("images", nargs=-1, metavar="[IMAGE…]")
@click.option(
    "--domain", default="", metavar="NAME", help="Without images: an embedded domain's pipeline and classifier."
)
@click.option(
    "--count", type=click.IntRange(1), default=4, show_default=True, help="Without images: how many are made."
)
@click.option(
    "--keep",
    type=click.Choice(["foreground", "background", "none"]),
    default="foreground",
    show_default=True,
    help="What is copied from the first picture for the first 30 % of the steps, so that the rest has to change.",
)
@click.option(
    "--masker", default="attribution", show_default=True, metavar="'NAME k=v'", help="What the foreground is."
)
@MORE
def visualise(images: tuple[str, ...], as_json: bool, quiet: bool, **how: Any) -> None:
    """Pictures that a unit says more of, from IMAGEs or from pictures made of --prompt; the foreground is kept.

    What a unit still finds when the object has to stay is what it looks for beside it (a spurious feature).
    """
    keep, masker = how.pop("keep"), how.pop("masker")
    if keep != "none":
        how["editors"] = (*how["editors"], f'blend keep={keep} otherwise="{masker}"')
    render.rows(_changed(images, ("plus",), quiet, **how), SHOWN, as_json)


@neurons.command(cls=options.LoadsPipeline)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE…")
@click.option(
    "--sign",
    type=click.Choice(["both", "plus", "minus"]),
    default="both",
    show_default=True,
    help="More, less or both.",
)
@MORE
def counterfactual(images: tuple[str, ...], sign: str, as_json: bool, quiet: bool, **how: Any) -> None:
    """The same picture with more and with less of a unit, near to it (see --regularizer)."""
    how["regularizers"] = how["regularizers"] or ("l1 weight=20",)
    signs = ("minus", "plus") if sign == "both" else (sign,)
    render.rows(_changed(images, signs, quiet, **how), SHOWN, as_json)


def _study(data: str, classifier: str | None, **how: Any) -> UnitStudy:
    from counterlens.core.models.model_options import go_offline
    from counterlens.core.workflows.unit_study import UnitStudy

    render.quieten()
    go_offline(how.pop("offline", False))
    return UnitStudy(options.registry(), data, classifier, notice=options.warn, **how)


def _changed(images: Sequence[str], signs: Sequence[str], quiet: bool, **how: Any) -> list[dict[str, Any]]:
    from counterlens.cli.sheets import write_sheet
    from counterlens.core.workflows import explain_units as work

    render.quieten()
    with render.progress(quiet) as meter:
        rows, sheets = work.change_units(options.registry(), images, signs, meter, **how)
    for name, sheet in sheets.items():
        write_sheet(Path(how["out"]) / name, sheet)
    return rows


@neurons.command(cls=options.LoadsClassifier)
@click.argument("data", metavar="DATA")
@LAYER
@UNIT
@CLASSIFIER
@click.option("--top", type=click.IntRange(1), default=6, show_default=True, help="Images a unit.")
@OUT
@BATCH
@options.as_json
def compare(
    data: str, layer: str, units: tuple[int, ...], classifier: str | None, top: int, out: str, as_json: bool, **how: Any
) -> None:
    """Units side by side: the activation of each on the top images of all, and how they go together over DATA."""
    from counterlens.cli.sheets import write_sheet
    from counterlens.core.errors import UsageError
    from counterlens.core.workflows import explain_units as work

    if len(set(units)) < 2:
        raise UsageError("compare needs two units at least: repeat --unit")
    with _study(data, classifier, **how) as study:
        table = study.table(layer)
        table.check(units)
        found, sheet = work.compare_units(study, table, list(dict.fromkeys(units)), top)
    path = Path(out) / "compare.png"
    write_sheet(path, sheet)
    rows = [{**row, "sheet": str(path)} for row in found]
    columns = ("unit", "on", *(f"unit {unit}" for unit in dict.fromkeys(units)))
    render.rows(rows, columns, as_json)
