"""``counterlens directions``: directions in the activations of a U-Net (h-space), found, kept and looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from counterlens.cli import options, render
from counterlens.cli.commands.train import field_option
from counterlens.cli.nouns.directions_apply import COLUMNS, NETWORKS, apply, combine, described, name, probe
from counterlens.cli.nouns.directions_measure import measure

LEARN = (
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
    click.option("--eta", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Noise of the samples."),
)


class Directions(options.Noun):
    """A group that lists the finders when no verb is given."""


@click.group(cls=Directions)
def directions() -> None:
    """Directions in a U-Net's activations: find them, look at what they do, put them together, name them."""


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
        from counterlens.core.h_space.job import FindRequest
        from counterlens.core.pieces.options import build
        from counterlens.core.workflows.find_directions import find_directions as found

        own = {key: how.pop(key) for key in cls.model_fields}
        finder: Any = build(
            cls, {key: value for key, value in own.items() if value is not None}, options.registry().make
        )
        render.quieten()
        with render.progress(quiet) as meter:
            bank = found(options.registry(), finder, FindRequest(**how), meter, meter.note)
        bank.save(out)
        render.rows(list(described(bank)), COLUMNS, as_json, "no direction was found")
        if not as_json:
            click.echo(f"directions: {out}")

    command = click.command(cls.name, cls=options.LoadsPipeline, help=cls.__doc__)(run)
    own = [field_option(key, info) for key, info in cls.model_fields.items()]
    out = click.option(
        "--out", type=click.Path(dir_okay=False), default="directions.safetensors", show_default=True, help="The file."
    )
    for add in (*own, *LEARN, *NETWORKS, out, options.as_json, options.quiet):
        add(command)
    return command


@directions.command("list")
@options.as_json
def list_(as_json: bool) -> None:
    """The finders that there are."""
    entries = options.registry().entries["finder"]
    rows = [{"name": key, "summary": cls.summary()} for key, cls in sorted(entries.items())]
    render.rows(rows, ("name", "summary"), as_json)


@directions.command()
@click.argument("file", type=click.Path())
@options.as_json
def show(file: str, as_json: bool) -> None:
    """What a FILE of directions holds, and what it belongs to."""
    from counterlens.core.h_space.shifts import load_shifts

    bank = load_shifts(Path(file))
    head = {**vars(bank.space), "steps": len(bank.space.timesteps), "shape": list(bank.shape), **bank.provenance}
    rows = list(described(bank))
    if as_json:
        render.emit_json({**head, "directions": rows})
        return
    render.fields({key: value for key, value in head.items() if value not in (None, "", {}, [])}, False)
    render.table(rows, COLUMNS)


for _command in (apply, probe, name, combine, measure):
    directions.add_command(_command)
