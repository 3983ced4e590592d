"""``counterlens plugins``: proof of what was found, where it comes from, and what is broken."""

from __future__ import annotations

from typing import Any

import click

from counterlens.cli import options, render


@click.group(cls=options.Noun)
def plugins() -> None:
    """Installed plugins, built-in and from other distributions."""


@plugins.command("list")
@options.as_json
def list_(as_json: bool) -> None:
    """Name, distribution, version and hooks of every plugin; broken ones with the reason."""
    render.rows(_plugins(), ("name", "distribution", "version", "status", "hooks"), as_json)


@plugins.command()
@click.argument("name")
@options.as_json
def show(name: str, as_json: bool) -> None:
    """One plugin, and everything that its distribution brings."""
    from counterlens.core.errors import unknown

    found = {one["name"]: one for one in _plugins()}
    if name not in found:
        raise unknown("plugin", name, found)
    loaded, one = options.registry(), found[name]
    brings = sorted(f"{kind} {entry}" for (kind, entry), by in loaded.origins.items() if by == one["distribution"])
    render.fields({**one, "distribution_brings": brings}, as_json)


def _plugins() -> list[dict[str, Any]]:
    return [
        {
            "name": one.name,
            "distribution": one.distribution,
            "version": one.version,
            "status": f"broken: {one.error}" if one.error else "ok",
            "hooks": [hook.removeprefix("counterlens_") for hook in one.hooks],
            "error": one.error or None,
        }
        for one in options.registry().plugins
    ]
