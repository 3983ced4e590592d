"""``counterlens pieces``: what methods are made of."""

from __future__ import annotations

from typing import Any

import click

from counterlens.cli import options, render


@click.group(cls=options.Noun)
def pieces() -> None:
    """Editors, guidance, regularizers and the other pieces of methods."""


@pieces.command("list")
@click.option("--kind", help="Only this kind: editor, guidance, regularizer, …")
@options.as_json
def list_(kind: str | None, as_json: bool) -> None:
    """All pieces with where they come from."""
    found = ({**one, "options": [o["name"] for o in one["options"]]} for one in _pieces(kind))
    columns: tuple[str, ...] = ("kind", "name", "summary", "options", "origin")
    if kind == "metric":
        columns = ("name", "direction", "bounds", "cost", "needs", "population", "summary")
    render.rows(found, columns, as_json, f"no {kind or 'piece'} is installed")


@pieces.command()
@click.argument("name")
@click.option("--kind", help="Which one, where kinds share a name.")
@options.as_json
def show(name: str, kind: str | None, as_json: bool) -> None:
    """A piece with its options: type, default, range and what they mean."""
    from counterlens.core.errors import unknown

    every = list(_pieces(kind))
    found = [one for one in every if one["name"] == name]
    if not found:
        raise unknown(kind or "piece", name, {one["name"] for one in every})
    for one in found:
        if as_json:
            render.emit_json(one)
        else:
            _show(one)


def _show(one: dict[str, Any]) -> None:
    head = {key: value for key, value in one.items() if key != "options"}
    render.fields(head, False)
    if one["options"]:
        render.table(one["options"], ("name", "type", "default", "range", "help"))


def _pieces(kind: str | None) -> Any:
    from counterlens.core.errors import unknown
    from counterlens.core.plugin import describe
    from counterlens.core.plugin.registry import KINDS

    if kind is not None and kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    return describe.pieces(options.registry(), (kind,) if kind else tuple(KINDS))
