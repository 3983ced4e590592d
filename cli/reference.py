"""The reference pages out of the commands and pieces themselves: ``python -m counterlens.cli.reference [FOLDER]``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from counterlens.cli.main import main

NOTE = "<!-- Written by `make docs` out of the code; change it there. -->"


def pages() -> dict[str, str]:
    """The text of every page by its file's name; third-party plugins are left out."""
    return {"cli.md": _page("Command line", _commands()), "pieces.md": _page("Pieces and methods", _pieces())}


def _page(title: str, lines: Iterator[str]) -> str:
    return "\n".join([f"# {title}", "", NOTE, "", *lines]).rstrip() + "\n"


def _commands() -> Iterator[str]:
    ctx = click.Context(main, info_name="counterlens")
    yield from _command(ctx, main)


def _command(ctx: click.Context, command: click.Command) -> Iterator[str]:
    """A command's heading, words, arguments and options, then its own commands."""
    usage = [p.human_readable_name if p.metavar is None else p.metavar for p in command.params if _argument(p)]
    if ctx.parent:
        yield from (f"## `{' '.join([ctx.command_path.removesuffix(' '), *usage])}`", "")
    yield from (inspect.cleandoc(command.help or ""), "")
    options = (p for p in command.get_params(ctx) if isinstance(p, click.Option))
    described = [option for option in options if not {"--help", "--version"} & {*option.opts}]
    if described:
        yield from ("| option | value | default | |", "|---|---|---|---|", *map(_option, described), "")
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            child = command.get_command(ctx, name)
            if child:
                yield from _command(click.Context(child, info_name=name, parent=ctx), child)


def _argument(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Argument)


def _option(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in sorted(option.opts, key=len, reverse=True))
    default = f"`{option.default}`" if option.show_default else ""
    again = " (repeatable)" if option.multiple else ""
    return _row(names, "" if option.is_flag else _value(option), default, (option.help or "") + again)


def _value(option: click.Option) -> str:
    kind = option.type
    if isinstance(kind, click.Choice):
        return " or ".join(f"`{choice}`" for choice in kind.choices)
    if isinstance(kind, (click.IntRange, click.FloatRange)):
        low = "" if kind.min is None else f"{'>' if kind.min_open else '≥'} {kind.min}"
        high = "" if kind.max is None else f"{'<' if kind.max_open else '≤'} {kind.max}"
        whole = "whole number" if isinstance(kind, click.IntRange) else "number"
        return ", ".join(part for part in (whole, low, high) if part)
    return option.metavar or {"integer": "whole number"}.get(kind.name, kind.name)


def _pieces() -> Iterator[str]:
    from counterlens.core.plugin import describe
    from counterlens.core.plugin.registry import load_registry

    loaded = load_registry(third_party=False)
    yield from (
        "Written `NAME key=value` on the command line and in YAML alike; see `counterlens pieces show NAME`.",
        "",
    )
    kind = ""
    for one in describe.pieces(loaded):
        if one["kind"] != kind:
            kind = one["kind"]
            yield from (f"## {kind}", "")
        yield from _piece(one)
    yield from ("## methods", "", "| name | | pieces | from |", "|---|---|---|---|")
    for _, method in sorted(loaded.entries["method"].items()):
        body = (*method.editors, *method.guidance, *method.regularizers)
        parts = ", ".join(f"`{text}`" for text in (method.inverter, method.combiner, *body, method.search))
        yield _row(f"`{method.name}`", method.summary, parts, method.source)


def _piece(one: dict[str, Any]) -> Iterator[str]:
    yield from (f"### {one['name']}", "", one["summary"], "")
    words = [f"{key}: {', '.join(one[key])}" for key in ("needs", "gives") if one[key]]
    if words:
        yield from ("; ".join(words).capitalize() + ".", "")
    if one["kind"] == "metric":
        yield from (
            f"{one['direction'].capitalize()}; {one['bounds']}; of {one['population']}; cost: {one['cost']}.",
            "",
        )
    if one["options"]:
        yield from ("| option | type | default | range | |", "|---|---|---|---|---|")
        for option in one["options"]:
            default = "required" if option["required"] else (f"`{option['default']}`" if option["default"] else "")
            yield _row(f"`{option['name']}`", option["type"], default, option["range"], option["help"])
        yield ""


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
