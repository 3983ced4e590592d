"""``counterlens directions``: directions in the activations of a U-Net (h-space), found, kept and looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from counterlens.cli import options, render
from counterlens.cli.effects import measure
from counterlens.cli.train import field_option

COMMON = (
    click.option("--domain", metavar="NAME", default="", help="An embedded domain's pipeline, classifier and images."),
    click.option("--image", "images", multiple=True, metavar="IMAGE", help="Image for finders of one image; repeat."),
    click.option("--target", "-t", metavar="CLASS", help="Target class of these images; the runner-up if not given."),
    click.option("--model", metavar="URI", default="", help="Pipeline: a folder, a hub id, or domain:NAME/FAMILY."),
    click.option("--classifier", metavar="URI", default="", help="Classifier that labels: file:PATH, domain:NAME, …"),
    click.option(
        "--data", metavar="URI", default="", help="Labelled images: domain:NAME, or a folder of class folders."
    ),
    click.option(
        "--site",
        default="mid.after",
        show_default=True,
        help="Where in the U-Net: mid.before, mid.middle, mid.after, up.N, down.N, skip.N.K.",
    ),
    click.option("--steps", type=click.IntRange(1, 1000), default=20, show_default=True, help="Of the trajectory."),
    click.option("--count", "-n", type=click.IntRange(1), default=200, show_default=True, help="Images to learn from."),
    click.option(
        "--from",
        "source",
        type=click.Choice(["samples", "images"]),
        default="samples",
        show_default=True,
        help="Learn from generated samples, or from inverted images of --data.",
    ),
    click.option(
        "--inverter", default="ddim", show_default=True, metavar="'NAME k=v'", help="How images are inverted."
    ),
    click.option("--combiner", default="cfg scale=1", show_default=True, metavar="'NAME k=v'", help="Guidance."),
    click.option("--eta", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Noise of the samples."),
    click.option("--prompt", default="", help="Words, for text-conditioned pipelines."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of all noise."),
    click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Rows in one network call."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."),
    click.option(
        "--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), default="float32", show_default=True
    ),
    click.option("--offline", is_flag=True, help="Use no network: only what is on this machine."),
    click.option("--prior", metavar="URI", default="", help="Where an unCLIP model's image encoder is, if elsewhere."),
)
COLUMNS = ("name", "kind", "length", "relative", "about")


class Directions(options.Noun):
    """A group that lists the finders when no verb is given."""


@click.group(cls=Directions)
def directions() -> None:
    """Directions in a U-Net's activations: find them, look at what they do, put them together, name them."""


directions.add_command(measure)


class Finders(click.Group):
    """The finders that plugins brought."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(options.registry().entries["finder"])

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        cls = options.registry().entries["finder"].get(name)
        return None if cls is None else _finder(cls)


@directions.group(cls=Finders)
def find() -> None:
    """Find directions and write them to a file; one command a finder."""


def _finder(cls: Any) -> click.Command:
    """A finder as a command: its fields are options, before those that all finders share."""

    def run(out: str, as_json: bool, quiet: bool, **how: Any) -> None:
        from counterlens.core.finding import Quest
        from counterlens.core.finding import find as found
        from counterlens.core.registry import build

        own = {key: how.pop(key) for key in cls.model_fields}
        finder: Any = build(
            cls, {key: value for key, value in own.items() if value is not None}, options.registry().make
        )
        render.quieten()
        with render.progress(quiet) as meter:
            bank = found(options.registry(), finder, Quest(**how), meter, meter.note)
        bank.save(out)
        render.rows(list(described(bank)), COLUMNS, as_json, "no direction was found")
        if not as_json:
            click.echo(f"directions: {out}")

    command = click.command(cls.name, help=cls.__doc__)(run)
    own = [field_option(name, info) for name, info in cls.model_fields.items()]
    out = click.option(
        "--out", type=click.Path(dir_okay=False), default="directions.safetensors", show_default=True, help="The file."
    )
    for add in (*own, *COMMON, out, options.as_json, options.quiet):
        add(command)
    return command


@directions.command("list")
@options.as_json
def list_(as_json: bool) -> None:
    """The finders that there are."""
    entries = options.registry().entries["finder"]
    rows = [{"name": name, "summary": cls.summary()} for name, cls in sorted(entries.items())]
    render.rows(rows, ("name", "summary"), as_json)


@directions.command()
@click.argument("file", type=click.Path())
@options.as_json
def show(file: str, as_json: bool) -> None:
    """What a FILE of directions holds, and what it belongs to."""
    from counterlens.core.bank import load

    bank = load(Path(file))
    head = {**vars(bank.space), "steps": len(bank.space.timesteps), "shape": list(bank.shape), **bank.provenance}
    rows = list(described(bank))
    if as_json:
        render.emit_json({**head, "directions": rows})
        return
    render.fields({key: value for key, value in head.items() if value not in (None, "", {}, [])}, False)
    render.table(rows, COLUMNS)


def described(bank: Any) -> Any:
    """A row for each direction: its mean length a step, that over the activation's own, and its statistics."""
    norms = bank.norms.float()
    for shift in bank.shifts:
        length = shift.norms().float()
        known = norms > 0
        relative = float((length[known] / norms[known]).mean()) if bool(known.any()) else None
        yield {
            "name": shift.name,
            "kind": shift.kind,
            "length": round(float(length.mean()), 4),
            "relative": None if relative is None else round(relative, 4),
            "about": {k: v for k, v in shift.about.items() if not isinstance(v, (list, dict))},
            **({"steps": {k: v for k, v in shift.about.items() if isinstance(v, (list, dict))}}),
        }
