"""``counterlens domains``: the embedded data sets with their classifiers and pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from counterlens.cli import options, render

splits = click.option(
    "--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True, help="Which part."
)


@click.group(cls=options.Noun)
def domains() -> None:
    """Embedded domains: data, classifiers and trained pipelines that come with packages."""


@domains.command("list")
@options.as_json
def list_(as_json: bool) -> None:
    """All domains."""
    found = [_domain(name) for name in sorted(options.registry().entries["domain"])]
    render.rows(found, ("name", "summary", "labels", "size", "images", "pipelines", "origin"), as_json, "no domain")


@domains.command()
@click.argument("name")
@options.as_json
def show(name: str, as_json: bool) -> None:
    """A domain with its measured figures and its training record."""
    render.fields({**_domain(name), **options.registry().domain(name).record()}, as_json)


@domains.command()
@click.argument("name")
@click.option("--count", "-n", type=click.IntRange(1, 10_000), default=8, show_default=True, help="How many images.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="Index of the first.")
@splits
@click.option("--out", type=click.Path(file_okay=False), default="samples", show_default=True, help="Folder for PNGs.")
@options.as_json
def sample(name: str, count: int, first: int, split: str, out: str, as_json: bool) -> None:
    """Save images of a domain as PNG files."""
    from counterlens.core.utils.files import explained

    domain, folder = options.registry().domain(name), Path(out)
    last = min(first + count, domain.length(split))
    samples = [domain.sample(index, split) for index in range(first, max(last, first + 1))]
    found = []
    for index, one in enumerate(samples, first):
        path = folder / f"{name}-{split}-{index}.png"
        with explained(path):
            _save(one.pixels, path)
        words = {"label": one.label, "caption": one.caption, "factors": dict(one.factors)}
        found.append({"image": f"{name}:{index}", **words, "path": str(path)})
    render.rows(found, ("image", "label", "caption", "path"), as_json)


@domains.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.option("--out", type=click.Path(file_okay=False), help="Folder for the weights, instead of the package's.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the training.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--part", "parts", multiple=True, help="Only this network or pipeline; repeat.")
@options.as_json
@options.quiet
def train(name: str, quiet: bool, as_json: bool, **how: Any) -> None:
    """Train a domain's networks and pipelines again; a run that was stopped goes on where it was."""
    from counterlens.core.errors import UsageError

    domain = options.registry().domain(name)
    if not hasattr(domain, "train"):
        raise UsageError(f"domain {name!r} brings no training: its weights come with {_origin(name)}")
    render.quieten()
    given = {key: value for key, value in how.items() if value not in (None, ())}
    with render.progress(quiet) as meter:
        record = domain.train(on_progress=meter, **given)
    render.fields(dict(record or {}), as_json)


def _save(pixels: Any, path: Path) -> None:
    import io

    from PIL import Image

    from counterlens.core.utils.files import write_atomic

    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())


def _domain(name: str) -> dict[str, Any]:
    from counterlens.core.errors import MissingError

    domain = options.registry().domain(name)
    try:
        pipelines, problem = list(domain.models()), {}
    except MissingError as error:
        pipelines, problem = [], {"problem": str(error)}
    return {
        "name": name,
        "summary": (domain.__doc__ or "").strip().partition("\n")[0],
        "labels": list(domain.labels),
        "size": domain.size,
        "images": {split: domain.length(split) for split in ("train", "validation", "test")},
        "classifier": domain.classifier,
        "judge": domain.judge,
        "pipelines": [f"domain:{name}/{family}" for family in pipelines],
        "origin": _origin(name),
        **problem,
    }


def _origin(name: str) -> str:
    return options.registry().origins["domain", name]
