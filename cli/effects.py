"""``counterlens directions measure``: what the directions of a file change, attribute by attribute."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import click

from counterlens.cli import options, render


@click.command()
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
@click.option("--model", metavar="URI", default="", help="Pipeline; that of the file if not given.")
@click.option("--classifier", metavar="URI", default="", help="Classifier whose probabilities are read.")
@click.option("--count", "-n", default=32, show_default=True, type=click.IntRange(1), help="Samples that are moved.")
@click.option("--prompt", default="", help="Words, for text-conditioned pipelines.")
@click.option("--combiner", default="cfg scale=1", show_default=True, metavar="'NAME k=v'", help="Guidance.")
@click.option(
    "--seed", type=click.IntRange(0), default=1000, show_default=True, help="Of the samples; not the finder's."
)
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Rows in one network call.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
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
    from counterlens.core import effects
    from counterlens.core.bank import load
    from counterlens.core.errors import UsageError
    from counterlens.core.finding import Quest, open_job

    bank = load(file)
    bank = bank.only(pick) if pick else bank
    known = bank.space
    how = {**how, "model": how["model"] or ("" if how["domain"] else known.uri)}
    quest = Quest(site=known.site, steps=len(known.timesteps), **how)
    registry = options.registry()
    render.quieten()
    with render.progress(quiet) as meter, ExitStack() as stack:
        distance = _distance(registry, path, quest) if path else None
        job = open_job(registry, registry.make("finder", "random"), quest, stack, meter, meter.note)
        bank = bank.check(job.pipeline, job.grid)
        read = _reader(registry, job, attributes, quest)
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


def _context(registry: Any, quest: Any, attributes: str = "") -> Any:
    from counterlens.core.measuring import Context
    from counterlens.core.prepare import device_of

    domain = quest.domain or (quest.images[0].partition(":")[0] if quest.images else "")
    domain = domain if domain in registry.entries["domain"] else ""
    return Context(registry, attributes_uri=attributes, domain_name=domain, device=device_of(quest.device), batch=32)


def _distance(registry: Any, text: str, quest: Any) -> Any:
    """A metric of two pictures as a function; squared, unless it is LPIPS, which is a sum of squares already."""
    from counterlens.core.errors import UsageError
    from counterlens.core.metrics import PictureMetric

    metric, context = registry.make("metric", text), _context(registry, quest)
    if not isinstance(metric, PictureMetric) or metric.population != "all":
        raise UsageError(f"{text!r} is no distance of two pictures: use lpips, l2, l1 or linf")
    if why := metric.missing(context):
        raise UsageError(f"{metric.name}: {why}")
    power = 1 if metric.name == "lpips" else 2
    return lambda x, y: metric.compare(x.to(context.device), y.to(context.device), (), context) ** power


def _reader(registry: Any, job: Any, attributes: str, quest: Any) -> Any:
    """All attributes that can be read off two pictures, as absolute changes."""
    from counterlens.core.effects import Read
    from counterlens.core.errors import UsageError

    context, readers = _context(registry, quest, attributes), []
    if job.classifier is not None:
        readers.append(_probabilities(job.classifier))
    if attributes:
        readers.append(_metric(registry.make("metric", "attribute_change"), context))
    if "factors" in context.gives:
        readers.append(_metric(registry.make("metric", "factor_change"), context))
    if not readers:
        raise UsageError("nothing reads the pictures: give --classifier, --attributes or --domain")
    read: Read = lambda x, y: {name: value for one in readers for name, value in one(x, y).items()}  # noqa: E731
    return read


def _probabilities(classifier: Any) -> Any:
    labels = classifier.labels if len(classifier.labels) > 2 else classifier.labels[:1]  # two are each other's rest

    def read(x: Any, y: Any) -> Any:
        before, after = (classifier.probabilities(p.to(classifier.device)) for p in (x, y))
        return {f"p({name})": (after - before)[:, k].abs() for k, name in enumerate(labels)}

    return read


def _metric(metric: Any, context: Any) -> Any:
    return lambda x, y: metric.compare(x.to(context.device), y.to(context.device), (), context)
