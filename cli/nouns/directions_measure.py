"""``counterlens directions measure``: what the directions of a file change, attribute by attribute."""

from __future__ import annotations

from typing import Any

import click

from counterlens.cli import options, render


@click.command(cls=options.LoadsPipeline)
@click.argument("file", type=click.Path())
@click.option("--pick", multiple=True, metavar="NAME", help="Only this direction; repeat.")
@click.option("--strength", default=1.0, show_default=True, help="Both signs of it are measured.")
@click.option("--attributes", metavar="URI", default="", help="Classifier of attributes, each yes or no on its own.")
@click.option("--query", default="", help="The attribute that is meant; else the one that changes most.")
@click.option("--path", metavar="'METRIC k=v'", default="", help="Path length too, by this distance: lpips, l2, …")
@click.option("--points", default=10, show_default=True, type=click.IntRange(2), help="Path length: places.")
@click.option("--eps", default=0.1, show_default=True, type=click.FloatRange(0, 1, min_open=True), help="… and step.")
@click.option("--domain", metavar="NAME", default="", help="An embedded domain's pipeline, classifier and factors.")
@click.option("--image", "images", multiple=True, metavar="IMAGE", help="Move these images, not samples; repeat.")
@click.option("--classifier", metavar="URI", default="", help="Classifier whose probabilities are read.")
@click.option("--count", "-n", default=32, show_default=True, type=click.IntRange(1), help="Samples that are moved.")
@click.option("--prompt", default="", help="Words, for text-conditioned pipelines.")
@click.option("--combiner", default="cfg scale=1", show_default=True, metavar="'NAME k=v'", help="Guidance.")
@click.option(
    "--seed", type=click.IntRange(0), default=1000, show_default=True, help="Of the samples; not the finder's."
)
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Rows in one network call.")
@options.as_json
@options.quiet
def measure(
    file: str,
    pick: tuple[str, ...],
    strength: float,
    attributes: str,
    query: str,
    path: str,
    points: int,
    eps: float,
    as_json: bool,
    quiet: bool,
    **how: Any,
) -> None:
    """What the directions of a FILE change: mean change of every attribute at ±strength, and the path's length.

    Attributes are the classes of --classifier (change of probability), those of --attributes, and the factors of an
    embedded domain (share of their range). ``on`` is the attribute that is meant, ``off`` the largest of the others.
    """
    from counterlens.core.errors import UsageError
    from counterlens.core.h_space import effects
    from counterlens.core.h_space.job import FindRequest
    from counterlens.core.h_space.shifts import load_shifts
    from counterlens.core.workflows.find_directions import open_job

    bank = load_shifts(file)
    bank = bank.only(pick) if pick else bank
    known = bank.space
    if not how["domain"]:
        how.setdefault("model", known.uri)
    quest = FindRequest(site=known.site, steps=len(known.timesteps), **how)
    registry = options.registry()
    render.quieten()
    distance = effects.distance_of(registry, path, quest) if path else None
    needs = {"mid-block": "measuring directions"}
    with (
        render.progress(quiet) as meter,
        open_job(registry, quest, needs, progress=meter, notice=meter.note) as job,
    ):
        bank = bank.check(job.pipeline, job.grid)
        read = effects.change_reader(registry, job, attributes, quest)
        found = effects.changes(job, bank, strength, read)
        names = list(next(iter(found.values())))
        if query and query not in names:
            raise UsageError(f"no attribute {query!r}; there are {', '.join(names)}")
        rows = [{"name": name, **effects.on_and_off(row, query), "changes": row} for name, row in found.items()]
        if distance is not None:
            lengths = effects.path_lengths(job, bank, strength, distance, points, eps)
            rows = [{**row, "path_length": lengths[str(row["name"])]} for row in rows]
    flat = [_rounded({**row, **row["changes"]}) for row in rows]
    columns = ("name", "on", "on_change", "off", "off_change", *(("path_length",) if path else ()), *names)
    if as_json:
        render.rows(rows, columns, True)
    else:
        render.table(flat, columns)


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
