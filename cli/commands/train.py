"""``counterlens train``: classifiers, embeddings and adapters from folders of images. One command a trainer."""

from __future__ import annotations

import os
import typing
from typing import Any

import click

from counterlens.cli import options, render

COMMON = (
    click.option("--out", type=click.Path(), help="File or folder to write."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of all randomness."),
    click.option("--strict", is_flag=True, help="Stop at the first image that cannot be read."),
    options.data,
    click.option("--dry-run", is_flag=True, help="Say what would be done, how long it takes and how big it gets."),
    options.as_json,
    options.quiet,
)


class Trainers(click.Group):
    """The trainers that plugins brought."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(options.registry().entries["trainer"])

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        cls = options.registry().entries["trainer"].get(name)
        return None if cls is None else _command(cls)


@click.group(cls=Trainers)
def train() -> None:
    """Train what methods need, on your own images.

    DATA is a folder with a sub-folder of images for each class, csv:FILE, npz:FILE or domain:NAME. Its training part is
    used (three of four groups where it has no parts of its own), so that --split test stays unseen; --split all: all.
    With --json the record of what was trained is one object on stdout.
    """


def _command(cls: Any) -> click.Command:
    """A trainer as a command: its fields are the options."""

    @click.pass_context
    def run(ctx: click.Context, data: str, as_json: bool, quiet: bool, **how: Any) -> None:
        from counterlens.core.pieces.options import build
        from counterlens.core.workflows.train import train

        data = options.refine(data, {key: how.pop(key) for key in options.DATA}, "train")
        own = {key: how.pop(key) for key in cls.model_fields}
        trainer: Any = build(cls, {key: value for key, value in own.items() if value is not None})
        networks = options.model_options(how)
        render.quieten()
        with render.progress(quiet) as meter:
            out = how.pop("out") or ""
            record = train(options.registry(), trainer, data, out, networks, progress=meter, notice=meter.note, **how)
        if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
            render.fields(record, as_json)

    loads = options.LoadsClassifier if cls.networks == "none" else options.LoadsPipeline
    command = click.command(cls.name, cls=loads, help=cls.__doc__)(run)
    own = (field_option(name, info) for name, info in cls.model_fields.items())
    for add in (click.argument("data", metavar="DATA"), *own, *COMMON):
        add(command)  # a decorator of a function puts itself first, of a command last
    return command


def field_option(name: str, info: Any) -> Any:
    """A field as an option; ranges and texts are checked by the field itself."""
    from counterlens.core.pieces.options import allowed, written

    default = None if info.is_required() else info.get_default(call_default_factory=True)
    limits = allowed(info)
    text = f"{info.description or ''}  [{'; '.join(filter(None, [f'default: {written(default)}', limits]))}]"
    flag = f"--{name.replace('_', '-')}"
    if info.annotation is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=text)
    if typing.get_origin(info.annotation) is typing.Literal:
        choice = click.Choice([str(value) for value in typing.get_args(info.annotation)])
        return click.option(flag, name, type=choice, default=None, help=text)
    kind = info.annotation if info.annotation in (int, float) else str
    return click.option(flag, name, type=kind, default=None, help=text, required=info.is_required())
