"""``counterlens models``: families of pipelines, and what is in a model folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from counterlens.cli import options, render


@click.group(cls=options.Noun)
def models() -> None:
    """Model families, embedded pipelines, and model folders."""


@models.command("list")
@options.as_json
def list_(as_json: bool) -> None:
    """The families that can be loaded, and the pipelines that come with domains."""
    found = [*_families(), *_embedded()]
    render.rows(found, ("kind", "name", "summary", "gives", "origin"), as_json, "no family is installed")


@models.command()
@click.argument("model")
@options.as_json
def show(model: str, as_json: bool) -> None:
    """What a pipeline folder (or domain:NAME/FAMILY, or a family's name) holds, without loading its weights."""
    families = {one["name"]: one for one in _families()}
    if model in families and not Path(model).exists():
        render.fields(families[model], as_json)
        return
    found = _described(model)
    if as_json:
        render.emit_json(found)
        return
    render.fields({key: value for key, value in found.items() if key != "parts"}, False)
    render.table(found["parts"], ("part", "class", "status", "parameters", "bytes", "dtypes"))


def _described(model: str) -> dict[str, Any]:
    from counterlens.core.models.folder import describe_folder

    loaded = options.registry()
    return describe_folder(_folder(model), loaded.recognise)


def _folder(model: str) -> Path:
    from counterlens.core.errors import unknown

    if not model.startswith("domain:"):
        return Path(model).expanduser()
    embedded = {one["name"]: one["path"] for one in _embedded()}
    if model not in embedded:
        raise unknown("pipeline", model, embedded)
    return Path(embedded[model])


def _families() -> Iterator[dict[str, Any]]:
    loaded = options.registry()
    for name, family in sorted(loaded.entries["family"].items()):
        yield {
            "kind": "family",
            "name": name,
            "summary": family.summary(),
            "pipelines": list(family.pipelines),
            "parts": list(family.parts),
            "gives": sorted(family.gives),
            "origin": loaded.origins["family", name],
        }


def _embedded() -> Iterator[dict[str, Any]]:
    from counterlens.core.errors import MissingError

    loaded = options.registry()
    for name, domain in sorted(loaded.entries["domain"].items()):
        try:
            folders = domain.models()
        except MissingError as error:
            options.warn(str(error))
            continue
        for family, path in folders.items():
            yield {
                "kind": "pipeline",
                "name": f"domain:{name}/{family}",
                "summary": f"{family} pipeline of the domain {name}",
                "family": family,
                "path": str(path),
                "gives": sorted(loaded.entries["family"][family].gives) if family in loaded.entries["family"] else [],
                "origin": loaded.origins["domain", name],
            }
