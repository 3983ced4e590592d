"""``counterlens methods``: named compositions of pieces."""

from __future__ import annotations

from typing import Any

import click

from counterlens.cli import options, render


@click.group(cls=options.Noun)
def methods() -> None:
    """Methods: what 'explain --method' can run."""


@methods.command("list")
@options.as_json
def list_(as_json: bool) -> None:
    """All methods with a sentence each."""
    loaded = options.registry()
    found = (_method(name) for name in sorted(loaded.entries["method"]))
    render.rows(found, ("name", "summary", "search", "origin"), as_json, "no method is installed")


@methods.command()
@click.argument("name")
@options.as_json
def show(name: str, as_json: bool) -> None:
    """A method's pieces in the order in which they run, and the families that can serve it."""
    render.fields({**_method(name), "families": _families(name)}, as_json)


def _method(name: str) -> dict[str, Any]:
    loaded = options.registry()
    return {**loaded.method(name).model_dump(), "origin": loaded.origins["method", name]}


def _families(name: str) -> dict[str, str]:
    """For each family ``yes``, or what is missing, with a classifier that can be differentiated."""
    from counterlens.core.errors import PlanError
    from counterlens.core.problem.method import compose
    from counterlens.core.problem.plan import plan

    loaded, answer = options.registry(), {}
    composition = compose(loaded.make, loaded.method(name))
    for family, cls in sorted(loaded.entries["family"].items()):
        try:
            plan(composition, loaded, family, {"labels", "gradient", "map"} | cls.gives)
            answer[family] = "yes"
        except PlanError as error:
            answer[family] = f"no: {str(error).partition(': ')[2]}"
    return answer
