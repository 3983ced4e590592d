"""``counterlens disagree``: what does one classifier see that another one does not?"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import click

from counterlens.cli import options, render
from counterlens.cli.commands.explain import code_of

COLUMNS = ("image", "target", "p1_before", "p2_before", "p1_after", "p2_after", "rise", "l1", "seconds")


@click.command(cls=options.LoadsPipeline)
@click.argument("images", nargs=-1, metavar="[IMAGE…]")
@click.option("--target", "-t", metavar="CLASS", help="The class that the first should see and the second should not.")
@click.option("--against", metavar="URI", help="The second classifier; a domain's judge if not given.")
@click.option("--count", type=click.IntRange(1), default=4, show_default=True, help="Starts from noise, if no IMAGE.")
@click.option(
    "--loss",
    type=click.Choice(["joint", "confidence", "log-confidence", "logits"]),
    default="joint",
    show_default=True,
)
@click.option("--prompt", help="Words for the pictures; 'a photo of a CLASS' where they are made from noise.")
@click.option("--inverter", metavar="'NAME k=v'", help="Replace the inverter.")
@click.option("--combiner", metavar="'NAME k=v'", help="Replace the combiner.")
@click.option("--search", metavar="'NAME k=v'", help="Replace the search.")
@click.option("--editor", "editors", multiple=True, metavar="'NAME k=v'", help="Add an editor; repeat, in order.")
@click.option("--regularizer", "regularizers", multiple=True, metavar="'NAME k=v'", help="Add a penalty.")
@click.option("--steps", type=click.IntRange(1, 1000), help="Steps of the whole trajectory.")
@click.option("--classifier", metavar="URI", help="The first classifier; a domain's own if not given.")
@options.run
@options.batch
@options.as_json
@options.quiet
@click.pass_context
def disagree(
    ctx: click.Context,
    images: tuple[str, ...],
    against: str | None,
    count: int,
    loss: str,
    out: str,
    again: str,
    as_json: bool,
    quiet: bool,
    **how: Any,
) -> None:
    """Change images (or make new ones, from noise) until one classifier sees a class and another does not.

    The difference p1 - p2 of the class is raised by descent through the whole sampler. Without an IMAGE the pipeline
    makes --count pictures of the class first; those are the starts. Exit code 3: a difference rose by less than 0.5.
    """
    how["judge"], how["guidance"] = against, (f"disagreement loss={loss}",)
    how["method"] = str(resources.files("counterlens.plugins.methods").joinpath("tasks/disagreement.yaml"))
    records = [_row(record) for record in run(images, count, out, again, how, quiet)]
    render.rows(records, COLUMNS, as_json, "nothing was made")
    for record in records:
        if record["failure"]:
            click.echo(f"{record['image']}: {record['failure']}", err=True)
    code = code_of([{**r, "flipped": (r["rise"] or 0) >= 0.5} for r in records])
    ctx.exit(code)


def run(
    images: tuple[str, ...], count: int, out: str, again: str, how: dict[str, Any], quiet: bool
) -> list[dict[str, Any]]:
    """The records of the task; its starts, where they are made, lie in ``out``/starts."""
    from counterlens.core.engine.prepare import prepare
    from counterlens.core.engine.request import Request
    from counterlens.core.engine.session import Session

    loaded = options.registry()
    render.quieten()
    with render.progress(quiet) as meter:
        session = Session(loaded)
        if not images:
            how = _of_domain(how, loaded)
            images = _starts(session, how, count, Path(out), meter)
        request = Request(images=images, **how)
        return list(session.run(prepare(request, loaded), Path(out), again, meter, meter.note))


def _of_domain(how: dict[str, Any], loaded: Any) -> dict[str, Any]:
    """Starts from noise need a class; a domain's pipeline brings its classifiers."""
    from counterlens.core.errors import UsageError

    if not how["target"]:
        raise UsageError("from noise: which class? give --target (or give images)")
    if (model := how.get("model", "")).startswith("domain:"):
        domain = loaded.domain(model.removeprefix("domain:").partition("/")[0])
        how = {**how, "classifier": how["classifier"] or domain.classifier, "judge": how["judge"] or domain.judge}
    return {**how, "prompt": how["prompt"] if how["prompt"] is not None else f"a photo of a {how['target']}"}


def _starts(session: Any, how: dict[str, Any], count: int, out: Path, meter: Any) -> tuple[str, ...]:
    """The paths of pictures made from noise."""
    from PIL import Image

    from counterlens.core.engine.request import Request
    from counterlens.core.workflows.sample import from_noise

    folder = out / "starts" / f"{how['target'].replace('/', '_')}-{how['seed']}"
    pictures = from_noise(session, Request(images=(), **how), count, meter)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{k:03d}.png" for k in range(len(pictures))]
    for path, pixels in zip(paths, pictures, strict=True):
        Image.fromarray(pixels).save(path)
    return tuple(map(str, paths))


def _row(record: dict[str, Any]) -> dict[str, Any]:
    """The record with both classifiers' probabilities of the class, and how far their difference rose."""
    from counterlens.core.workflows.reconstruct import logit_gap

    target, (before, after) = record["target"], logit_gap(record)
    names = {"p1_before": "probabilities_before", "p2_before": "judge_before"}
    names |= {"p1_after": "probabilities_after", "p2_after": "judge_after"}
    more = {name: (record.get(key) or {}).get(target) for name, key in names.items()}
    rise = None if before is None or after is None else round(after - before, 6)
    return {**record, **more, "rise": rise}
