"""What commands share: their options, the registry, and nouns that list by default."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from counterlens.core.models.model_options import ModelOptions
    from counterlens.core.plugin.registry import Registry

Decorator = Callable[[Any], Any]


class Noun(click.Group):
    """A group that lists when no verb is given: ``methods --json`` is ``methods list --json``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object a line on stdout.")
quiet = click.option("--quiet", "-q", is_flag=True, help="No progress and no warnings on stderr.")


def together(*decorators: Decorator) -> Decorator:
    """Several options as one decorator, shown in this order."""

    def apply(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


composition = together(
    click.option("--method", default="guided", show_default=True, help="What runs; see: counterlens methods list."),
    click.option("--editor", "editors", multiple=True, metavar="'NAME k=v'", help="Add an editor; repeat, in order."),
    click.option("--guidance", multiple=True, metavar="'NAME k=v'", help="Add a pull toward the target."),
    click.option(
        "--regularizer",
        "regularizers",
        multiple=True,
        metavar="'NAME k=v'",
        help="Add a penalty for leaving the source.",
    ),
    click.option("--inverter", metavar="'NAME k=v'", help="Replace the method's inverter."),
    click.option("--combiner", metavar="'NAME k=v'", help="Replace the method's combiner."),
    click.option("--search", metavar="'NAME k=v'", help="Replace the method's search."),
    click.option("--steps", type=click.IntRange(1, 1000), help="Steps of the whole trajectory."),
    click.option(
        "--tau", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Target probability to reach."
    ),
)

explained = together(
    click.option("--classifier", metavar="URI", help="The classifier to explain: file:PATH, timm:NAME, hf:ID, …"),
    click.option("--judge", metavar="URI", help="An independent classifier that only reports."),
    click.option(
        "--data", metavar="URI", help="Labelled images to learn from: domain:NAME, or a folder of class folders."
    ),
)
batch = click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Rows in one network call.")

data = together(
    click.option("--split", type=click.Choice(["train", "validation", "test", "all"]), help="Part of labelled images."),
    click.option("--group-by", metavar="PATTERN", help="Regular expression of a file's name: who belongs together."),
    click.option("--classes", metavar="A,B", help="Only these classes."),
    click.option("--crop", type=click.Choice(["square", "pad", "none"]), help="Cut or pad every image to a square."),
    click.option("--trim-border", is_flag=True, help="Turn white areas that touch the border black."),
    click.option("--first", type=click.IntRange(1), help="So many images of each class."),
)
DATA = ("split", "group_by", "classes", "crop", "trim_border", "first")


def refine(uri: str, values: dict[str, Any], split: str = "") -> str:
    """The URI of labelled images with the options of ``data`` in it; ``split``: where none is given."""
    from counterlens.core.data.dataset import refined

    chosen = {
        "split": values["split"] or split,
        "group": values["group_by"],
        "classes": values["classes"],
        "crop": values["crop"],
        "trim": "true" if values["trim_border"] else "",
        "first": values["first"],
    }
    return refined(uri, **chosen)


class LoadsPipeline(click.Command):
    """A command that loads a pipeline: it has the options of ``ModelOptions``, of which those that are given reach it.

    They are made when they are first asked for, so that a list of commands imports no pydantic.
    """

    fields: tuple[str, ...] = ()  # all of them
    added: tuple[click.Option, ...] = ()

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if not self.added:
            self.added = tuple(_model_options(self.fields))
            self.params += self.added
        return super().get_params(ctx)

    def invoke(self, ctx: click.Context) -> Any:
        for option in self.added:
            if ctx.get_parameter_source(str(option.name)) is ParameterSource.DEFAULT:
                ctx.params.pop(str(option.name))
        return super().invoke(ctx)


class LoadsClassifier(LoadsPipeline):
    """A command that loads a classifier or a captioner, and no pipeline."""

    fields = ("device", "offline")


def _model_options(names: tuple[str, ...]) -> Iterator[click.Option]:
    """The fields of ``ModelOptions`` as options."""
    from counterlens.core.models.model_options import ModelOptions

    values = {"model": "URI", "adapters": "DIR", "prior": "URI", "refiner": "URI"}
    for name, about in ModelOptions.model_fields.items():
        if names and name not in names:
            continue
        kind, many = about.annotation, typing.get_origin(about.annotation) is tuple
        choices = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
        share = click.FloatRange(0, 1, min_open=True, max_open=True) if kind is float else None
        yield click.Option(
            [f"--{(name.removesuffix('s') if many else name).replace('_', '-')}", name],
            type=click.Choice(choices) if choices else share,
            is_flag=kind is bool,
            multiple=many,
            default=about.default or None,
            show_default=bool(about.default),
            metavar=values.get(name),
            help=about.description,
        )


def model_options(values: dict[str, Any]) -> ModelOptions:
    """The model options among the values of a command, which are taken out of them."""
    from counterlens.core.models.model_options import ModelOptions

    chosen = ModelOptions.among(values)
    for name in ModelOptions.model_fields:
        values.pop(name, None)
    return chosen


run = together(
    click.option(
        "--save",
        multiple=True,
        type=click.Choice(["tries", "strips", "gif", "webp", "csv"]),
        help="Further files: every try, strips of strengths and starts, before/after animations, tables; repeat.",
    ),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of all noise."),
    click.option("--out", type=click.Path(file_okay=False), default="runs", show_default=True, help="Folder of runs."),
    click.option(
        "--again",
        type=click.Choice(["never", "missing", "always"]),
        default="missing",
        show_default=True,
        help="What a second call does with finished images: only read them, do the missing ones, do all.",
    ),
)


@lru_cache(maxsize=1)
def registry() -> Registry:
    """Everything installed, loaded once; broken plugins are named on stderr."""
    from counterlens.core.plugin.registry import load_registry

    loaded = load_registry()
    for plugin in loaded.plugins:
        if plugin.error:
            warn(f"plugin {plugin.name} ({plugin.distribution}) is broken and left out: {plugin.error}")
    return loaded


def warn(line: str) -> None:
    """A warning on stderr, unless the command was told to be quiet."""
    ctx = click.get_current_context(silent=True)
    if not (ctx and ctx.params.get("quiet")):
        click.echo(f"warning: {line}", err=True)
