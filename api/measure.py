"""``counterlens.bench``: methods side by side, from a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from counterlens.core.errors import UsageError, unknown


class BenchResult(dict[str, Any]):
    """A benchmark's summary: ``rows`` of method, metric, mean, interval and n; ``report`` is the path of its page."""

    @property
    def report(self) -> Path:
        return Path(self["report"])

    def to_dataframe(self) -> Any:
        """A row a method and metric; needs pandas."""
        from counterlens.results import dataframe

        return dataframe(self["rows"])

    def _repr_html_(self) -> str:
        from html import escape

        from counterlens.benchmarks.report import table

        names, metrics, cells = table.grid(self)
        head = "".join(f"<th>{escape(metric)}</th>" for metric in metrics)
        rows = "".join(
            f"<tr><td>{escape(name)}</td>"
            + "".join(f"<td>{escape(table.cell(cells.get((name, metric))))}</td>" for metric in metrics)
            + "</tr>"
            for name in names
        )
        caption = f"<p>{escape(table.caption(self))}</p>"
        return f"<table><tr><th>method</th>{head}</tr>{rows}</table>{caption}"


def bench(
    data: str | PathLike[str],
    methods: Sequence[str] = ("all",),
    *,
    classifier: str | None = None,
    judge: str | None = None,
    pipeline: str | None = None,
    metrics: Sequence[str] = (),
    controls: Sequence[str] | None = None,
    limit: int | None = None,
    out: str | PathLike[str] = "runs",
    workers: int | None = 1,
    progress: bool = True,
    force: bool = False,
    steps: int | None = None,
    **protocol: Any,
) -> BenchResult:
    """Compare methods on labelled images: every image counts, failures are rows, controls stand beside the methods.

    ``data``: a URI (``domain:shapes``, ``folder:DIR``, …) or the name of a suite, as of ``counterlens bench --list``.
    ``classifier``, ``judge``: URIs, since workers are processes of their own that open them; a domain has its own.
    ``controls``: None for the suite's, ``()`` for none. ``protocol``: further fields of the protocol, such as ``seed``,
    ``batch``, ``draws``, ``split``. The run is kept below ``out``, and a second call goes on where the first stopped.
    """
    from counterlens.benchmarks.protocol import suite as suites
    from counterlens.benchmarks.run_suite import Hearing, Workers, run_suite
    from counterlens.calls import bar, session

    for name, value in {"classifier": classifier, "judge": judge}.items():
        if value is not None and not isinstance(value, str):
            raise UsageError(
                f"{name}: give a URI (python:FILE.py:NAME for your own network); workers open it themselves"
            )
    text = fspath(data)
    suite = suites.suite(text) if text in suites.names() else suites.of_data(text)
    given = {"classifier": classifier, "judge": judge, "model": pipeline, "limit": limit, **protocol}
    changes = _known({name: value for name, value in given.items() if value is not None}, suite.protocol)
    suite = suite.with_(**changes, metrics=tuple(metrics) or None)
    return BenchResult(
        run_suite(
            session().registry,
            suite,
            list(methods),
            fspath(out),
            Workers(count=workers),
            Hearing(progress=bar(progress)),
            controls=None if controls is None else list(controls),
            force=force,
            steps=steps,
        )
    )


def _known(changes: Mapping[str, Any], protocol: Any) -> Mapping[str, Any]:
    """The changes, all of which are fields of the protocol; UsageError with a suggestion for another."""
    fields = type(protocol).model_fields
    for name in changes:
        if name not in fields:
            raise unknown("option", name, fields)
    return changes
