"""What is installed, for notebooks: methods, pieces, pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from counterlens.core.models.pipeline import Pipeline


class Table(list[dict[str, Any]]):
    """Rows that a notebook shows as a table."""

    def _repr_html_(self) -> str:
        from html import escape

        columns = list(dict.fromkeys(key for row in self for key in row))
        head = "".join(f"<th>{escape(column)}</th>" for column in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(str(row.get(column, '')))}</td>" for column in columns) + "</tr>"
            for row in self
        )
        return f"<table><tr>{head}</tr>{body}</table>"


def methods() -> Table:
    """The methods that ``explain(method=…)`` takes, each with what it does and where it comes from."""
    from counterlens.calls import session

    found = session().registry.entries_of("method")
    return Table({"name": name, "summary": found[name].summary, "source": found[name].source} for name in sorted(found))


def pieces(kind: str = "") -> Table:
    """The pieces of a kind (``editor``, ``guidance``, ``metric``, …), or of all, with their options."""
    from counterlens.calls import session
    from counterlens.core.errors import unknown
    from counterlens.core.plugin import describe

    registry = session().registry
    kinds = sorted({one["kind"] for one in describe.pieces(registry)})
    if kind and kind not in kinds:
        raise unknown("kind of piece", kind, kinds)
    keys = ("kind", "name", "summary", "options")
    chosen = (one for one in describe.pieces(registry) if kind in ("", one["kind"]))
    return Table({key: one[key] for key in keys} for one in chosen)


def add_plugin(plugin: Any) -> None:
    """Add a plugin's pieces for the calls of this process: a module, or an object whose functions carry ``hookimpl``.

    What is installed with an entry point is found by itself; this is for trying one out. UsageError when it is broken.
    """
    from counterlens.calls import session
    from counterlens.core.errors import UsageError

    name = getattr(plugin, "__name__", None) or f"{type(plugin).__name__} {id(plugin)}"
    if error := session().registry.add(name, plugin).error:
        raise UsageError(f"plugin {name}: {error}")


@contextmanager
def load_pipeline(uri: str, device: str = "auto", dtype: str = "float32") -> Iterator[Pipeline]:
    """A pipeline on loan: ``with load_pipeline("domain:shapes/ddpm") as pipeline: …``.

    ``uri``: a folder in diffusers' layout, a hub id, or ``domain:NAME/FAMILY``. It stays loaded for later calls.
    """
    from counterlens.calls import session
    from counterlens.core.engine.locate import locate
    from counterlens.core.models.model_options import ModelOptions

    shared = session()
    place = locate(shared.registry, uri, {})
    key = ModelOptions(device=device, dtype=dtype).key(place.folder)
    with shared.pool.lend(key, shared.registry.family(place.family).load) as pipeline:
        yield pipeline
