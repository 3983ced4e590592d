"""Which methods are not beaten on flips, distance and cost at once, and the picture of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

AXES = ("flip_rate", "l1", "seconds")
CONTROLS = ("identity", "reconstruct", "random", "pgd", "nearest-real", "real")


def points(rows: Sequence[Mapping[str, Any]], axes: Sequence[str] = AXES) -> dict[str, dict[str, Mapping[str, Any]]]:
    """{method: {metric: row}} of the methods that have a value on every axis. ``rows``: of ``statistics.rows``."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        if row["metric"] in axes and row["value"] is not None:
            found.setdefault(row["method"], {})[row["metric"]] = row
    return {method: has for method, has in found.items() if len(has) == len(axes)}


def front(
    rows: Sequence[Mapping[str, Any]], axes: Sequence[str] = AXES, leave_out: Sequence[str] = CONTROLS
) -> list[str]:
    """Methods that no other one equals or betters on every axis while bettering it on one; controls take no part."""
    places = {
        method: tuple(
            row["value"] if row["higher_is_better"] else -row["value"] for row in (has[axis] for axis in axes)
        )
        for method, has in points(rows, axes).items()
        if method not in leave_out
    }
    return sorted(method for method, at in places.items() if not any(beats(other, at) for other in places.values()))


def beats(first: Sequence[float], second: Sequence[float]) -> bool:
    """Nowhere worse and somewhere better; higher is better on every axis.

    >>> beats((1, 2), (1, 1)), beats((1, 1), (1, 1)), beats((2, 0), (1, 1))
    (True, False, False)
    """
    return all(a >= b for a, b in zip(first, second, strict=True)) and tuple(first) != tuple(second)


def plot(
    rows: Sequence[Mapping[str, Any]], path: str | Path, axes: Sequence[str] = AXES, title: str = ""
) -> Path | None:
    """A picture (PNG or SVG by the path's ending): the first axis against each other one, intervals as bars, the
    front filled, controls grey. None, and no file, when no method has a value on every axis."""
    from matplotlib.figure import Figure

    found = points(rows, axes)
    if not found:
        return None
    best = front(rows, axes)
    figure = Figure(figsize=(5.2 * (len(axes) - 1), 4.4), layout="constrained")
    panels = figure.subplots(1, len(axes) - 1, sharey=True, squeeze=False)[0]
    for panel, axis in zip(panels, axes[1:], strict=True):
        for at, (method, has) in enumerate(sorted(found.items())):
            _mark(panel, has[axis], has[axes[0]], method, method in best, f"C{at % 10}")
        panel.set_xlabel(_title(axis, next(iter(found.values()))[axis]))
        panel.grid(alpha=0.25)
    panels[0].set_ylabel(_title(axes[0], next(iter(found.values()))[axes[0]]))
    n = next(iter(found.values()))[axes[0]]["n"]
    figure.suptitle(
        f"{title + ': ' if title else ''}{n} images, 95 % intervals; filled: not beaten on all axes", size=10
    )
    path = Path(path)
    figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


def _mark(panel: Any, x: Mapping[str, Any], y: Mapping[str, Any], method: str, best: bool, colour: str) -> None:
    control = method in CONTROLS
    colour = "0.55" if control else colour
    panel.errorbar(
        x["value"], y["value"], xerr=_reach(x), yerr=_reach(y), fmt="s" if control else "o", color=colour,
        mfc=colour if best else "white", ms=7, lw=1, capsize=2,
    )  # fmt: skip
    panel.annotate(method, (x["value"], y["value"]), xytext=(6, 5), textcoords="offset points", size=8, color=colour)


def _reach(row: Mapping[str, Any]) -> list[list[float]] | None:
    """The interval as matplotlib wants it: distances from the value."""
    if row["ci95"] is None:
        return None
    low, high = row["ci95"]
    return [[max(0.0, row["value"] - low)], [max(0.0, high - row["value"])]]


def _title(axis: str, row: Mapping[str, Any]) -> str:
    return f"{axis.replace('_', ' ')} ({'higher' if row['higher_is_better'] else 'lower'} is better)"
