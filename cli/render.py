"""How things are shown: rows as JSON lines or as a table on stdout, progress on stderr."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

PATIENCE = 2.0  # seconds that may pass in silence
MANY = 24  # a longer list is counted, not shown
LULL = 10.0  # seconds between two progress lines where there is no terminal


def emit_json(value: Any) -> None:
    """One object on one line of stdout; numbers that JSON does not have become null."""
    from counterlens.core.utils.files import plain

    click.echo(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))


def rows(items: Iterable[Mapping[str, Any]], columns: Sequence[str], as_json: bool, empty: str = "nothing") -> None:
    """A list: JSON lines with everything that is known, or a table of these columns."""
    items = list(items)
    if as_json:
        for item in items:
            emit_json(item)
    elif items:
        table(items, columns)
    else:
        click.echo(empty, err=True)


def table(items: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str = "") -> None:
    """A table on stdout, as wide as the terminal, or as wide as it needs to be when piped."""
    from rich import box
    from rich.table import Table

    drawn = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for column in columns:
        numeric = any(isinstance(item.get(column), (int, float)) for item in items)
        drawn.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for item in items:
        drawn.add_row(*(_cell(item.get(column)) for column in columns))
    console().print(drawn)


def fields(item: Mapping[str, Any], as_json: bool) -> None:
    """One thing: a JSON object, or its fields one a line, nested ones indented."""
    if as_json:
        emit_json(item)
        return
    for line in _lines(item, ""):
        click.echo(line)


def _lines(item: Mapping[str, Any], indent: str) -> Iterator[str]:
    width = max((len(str(key)) for key in item), default=0)
    for key, value in item.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}"
            yield from _lines(value, indent + "  ")
        elif isinstance(value, (list, tuple)) and value and all(isinstance(part, Mapping) for part in value):
            yield f"{indent}{key}"
            yield from (f"{indent}  {', '.join(f'{k} {_text(v)}' for k, v in part.items())}" for part in value)
        elif isinstance(value, (list, tuple)) and len(value) > MANY:
            yield f"{indent}{key!s:<{width}}  {len(value)} values (all of them with --json)"
        else:
            yield f"{indent}{key!s:<{width}}  {_text(value)}".rstrip()


def console(stderr: bool = False) -> Any:
    """A console that never wraps what is piped into another program."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else 240, highlight=False, soft_wrap=False)


def _cell(value: Any) -> str:
    from rich.markup import escape

    return escape(_text(value))


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if math.isfinite(value) else "–"
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(_text(part) for part in value) or "–"
    return str(value)


@contextmanager
def progress(quiet: bool) -> Iterator[ProgressMeter]:
    """A callback ``(what, done, total)``: a bar on a terminal, else a line now and then; nothing for short work."""
    meter = ProgressMeter(quiet)
    try:
        yield meter
    finally:
        meter.close()


class ProgressMeter:
    """Shows progress on stderr once two seconds have passed, also while nothing reports."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.begun, self.last = quiet, time.monotonic(), 0.0
        self.latest = ("loading", 0, 1)
        self.bar: Any = None
        self.task: Any = None
        self.timer = threading.Timer(PATIENCE, lambda: self._show(*self.latest))
        self.timer.daemon = True
        if not quiet:
            self.timer.start()

    def __call__(self, what: str, done: int, total: int) -> None:
        self.latest = (what, done, total)
        if not self.quiet and time.monotonic() - self.begun >= PATIENCE:
            self._show(*self.latest)

    def _show(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if sys.stderr.isatty():
            self._draw(what, done, total)
        elif not self.last or now - self.last >= LULL:
            self.last = now
            click.echo(f"{what}: {done} of {total}, {now - self.begun:.0f} s", err=True)

    def _draw(self, what: str, done: int, total: int) -> None:
        if self.bar is None:
            from rich.progress import Progress

            self.bar = Progress(console=console(stderr=True), transient=True)
            self.task = self.bar.add_task(what)
            self.bar.start()
        self.bar.update(self.task, description=what, completed=done, total=total)

    def note(self, line: str) -> None:
        """Something that a user should read: a line on stderr, above the bar."""
        if self.bar is not None:
            self.bar.console.print(line, markup=False)
        elif not self.quiet:
            click.echo(line, err=True)

    def close(self) -> None:
        self.timer.cancel()
        if self.bar is not None:
            self.bar.stop()


def quieten() -> None:
    """Keep the chatter of libraries off stderr: what matters comes as an error or a note of a record."""
    import os
    import warnings

    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning)
