"""The picture of rooms and arrows (docs/explanation/architecture.svg), out of the code: ``tools/architecture.py``.

An arrow says "imports". An arrow that follows from two others is left out (A to C, where A imports B and B imports
C), so that the picture shows the layers and not every import; all rooms that a room imports are its tooltip.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable
from html import escape
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "explanation" / "architecture.svg"
WIDTH, ROW, HEIGHT, BOX, GAP, LEFT, TOP = 1300, 96, 52, 176, 14, 60, 46
COLOURS = ("#f1f1ee", "#e3ecf7", "#e4f1e4", "#fbeeda", "#f3e4ef")  # foundation, mathematics, data, search, request
FILL = (0, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 4)  # the colour of every row, lowest first
WORDS = {"errors": "errors with exit codes", "cli": "the command line", "benchmarks": "methods side by side, measured"}
WORDS |= {"plugins": "every piece, a folder for each kind"}
HEADING = (
    "A room imports rooms below it only. Arrows that follow from others are left out. Plugins are found by their "
    "entry points, and imported by nobody."
)
Point = tuple[float, float]


def rows() -> list[list[str]]:
    """Rooms from the lowest layer up: those of core with plugins beside the engine, benchmarks, the command line."""
    found = [list(layer) for layer in figures.layers()]
    next(layer for layer in found if "engine" in layer).append("plugins")
    return [*found, ["benchmarks"], ["cli"]]


def rooms(root: Path = ROOT) -> dict[str, set[str]]:
    """{room: rooms that it imports}, of core and around it."""
    found: dict[str, set[str]] = {}
    for name, others in figures.graph_of(root).items():
        if ".make." in name:  # the scripts that made the embedded weights are no plugin
            continue
        own = _room(name)
        found.setdefault(own, set()).update(room for room in map(_room, others) if room != own)
    return {room: others for room, others in found.items() if room}


def _room(name: str) -> str:
    top, _, rest = name.partition(".")
    return rest.partition(".")[0].replace("__init__", "") if top == "core" else top


def thinned(arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """The arrows that do not follow from two or more others."""
    below = {room: reached(arrows, room) for room in arrows}
    return {a: {b for b in others if not any(b in below[c] for c in others)} for a, others in arrows.items()}


def reached(arrows: dict[str, set[str]], start: str) -> set[str]:
    """Rooms that a room reaches over any number of arrows."""
    return set().union(*({b} | reached(arrows, b) for b in arrows[start]))


class Layout:
    """Where boxes stand. An arrow that passes a row has a narrow place of its own in it, so that it crosses no box."""

    def __init__(self, order: list[list[str]], arrows: dict[str, set[str]]) -> None:
        self.row_of = {room: number for number, row in enumerate(order) for room in row}
        self.paths: dict[tuple[str, str], list[str]] = {}
        self.order = [list(row) for row in order]
        for start in sorted(arrows):
            for end in sorted(arrows[start]):
                through = range(self.row_of[start] - 1, self.row_of[end], -1)
                places = [f"{start}>{end}@{number}" for number in through]
                for place, number in zip(places, through, strict=True):
                    self.order[number].append(place)
                self.paths[start, end] = [start, *places, end]
        self.near: dict[str, tuple[list[str], list[str]]] = {p: ([], []) for row in self.order for p in row}
        for path in self.paths.values():
            for upper, lower in pairwise(path):
                self.near[upper][0].append(lower)
                self.near[lower][1].append(upper)
        self.x = {place: WIDTH / 2 for place in self.near}
        for row in self.order:
            self._spread(row)
        self._settle()

    def _settle(self) -> None:
        """Rows are sorted by the middle of their neighbours, down and up in turn; the fewest crossings win."""
        best, fewest = dict(self.x), float("inf")
        for turn in range(60):
            numbers = range(len(self.order)) if turn % 2 else range(len(self.order) - 1, -1, -1)
            for number in numbers:
                row = self.order[number]
                wish = {place: self._wish(place, down=turn % 2 == 0) for place in row}
                row.sort(key=lambda place: (wish[place], place))
                self.x.update(wish)
                self._spread(row)
            if (cost := self._cost()) < fewest:
                best, fewest = dict(self.x), cost
        self.x = best

    def _wish(self, place: str, down: bool) -> float:
        """Where a place wants to be: amid those above it (``down``: the rows are walked downward) or those below."""
        lower, upper = self.near[place]
        near = (upper or lower) if down else (lower or upper)
        return sum(self.x[other] for other in near) / len(near) if near else self.x[place]

    def _spread(self, row: list[str]) -> None:
        """Keep the row's order, make room, and stay as near to the wishes as that allows."""
        half = [BOX / 2 if place in self.row_of else 7.0 for place in row]
        for _ in range(200):
            moved = 0.0
            for k in range(len(row) - 1):
                a, b = row[k], row[k + 1]
                short = half[k] + half[k + 1] + GAP - (self.x[b] - self.x[a])
                if short > 0.01:
                    self.x[a] -= short / 2
                    self.x[b] += short / 2
                    moved = max(moved, short)
            for place, room in zip(row, half, strict=True):
                self.x[place] = min(max(self.x[place], LEFT + room), WIDTH - 20 - room)
            if moved < 0.5:
                break

    def _cost(self) -> float:
        """Crossings first, then how far arrows run sideways."""
        spans: dict[int, list[tuple[float, float]]] = {}
        for path in self.paths.values():
            for upper, lower in pairwise(path):
                spans.setdefault(self.level(upper), []).append((self.x[upper], self.x[lower]))
        crossings = sum(
            (a[0] - b[0]) * (a[1] - b[1]) < 0
            for pairs in spans.values()
            for k, a in enumerate(pairs)
            for b in pairs[k + 1 :]
        )
        return 1000 * crossings + sum(abs(a - b) for pairs in spans.values() for a, b in pairs)

    def level(self, place: str) -> int:
        """The row of a box or of an arrow's place in a row."""
        return self.row_of[place] if place in self.row_of else int(place.rpartition("@")[2])

    def middle(self, place: str) -> Point:
        return self.x[place], TOP + (len(self.order) - 1 - self.level(place)) * ROW + HEIGHT / 2


def drawing(root: Path = ROOT) -> str:
    """The picture as SVG."""
    arrows = rooms(root)
    order = rows()
    layout = Layout(order, thinned(arrows))
    tall = TOP + len(order) * ROW
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {tall}" font-family="sans-serif">',
            "<title>Rooms of counterlens and who imports whom</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0,0 8,4 0,8z" fill="#667"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{tall}" fill="white"/>',
            f'<text x="20" y="26" font-size="14" fill="#445">{HEADING}</text>',
            *(_band(number, len(order)) for number in range(len(order))),
            *(_arrow(layout, path) for path in layout.paths.values()),
            *(_box(layout, room, arrows.get(room, set()), root) for row in order for room in row),
            "</svg>\n",
        ]
    )


def _band(number: int, count: int) -> str:
    """The stripe behind a row, with the layer's number."""
    y = TOP + (count - 1 - number) * ROW - 12
    label = str(number + 1) if number < len(figures.layers()) else ""
    return (
        f'<rect x="8" y="{y}" width="{WIDTH - 16}" height="{HEIGHT + 24}" rx="6" fill="{COLOURS[FILL[number]]}"/>'
        f'<text x="20" y="{y + HEIGHT / 2 + 19:g}" font-size="20" fill="#99a">{label}</text>'
    )


def _arrow(layout: Layout, path: list[str]) -> str:
    """A smooth line through an arrow's places, from the lower side of one box to the upper side of another."""
    (x, y), (end_x, end_y) = layout.middle(path[0]), layout.middle(path[-1])
    x, end_x = _port(layout, path[0], path, True), _port(layout, path[-1], path, False)
    steps, y = [f"M{x:.0f},{y + HEIGHT / 2:.0f}"], y + HEIGHT / 2
    for next_x, next_y in [*map(layout.middle, path[1:-1]), (end_x, end_y)]:
        top = next_y - HEIGHT / 2
        bend = (top - y) / 2
        steps.append(f"C{x:.0f},{y + bend:.0f} {next_x:.0f},{top - bend:.0f} {next_x:.0f},{top:.0f}")
        if next_y != end_y:  # straight down between the boxes of a row
            steps.append(f"V{next_y + HEIGHT / 2:.0f}")
        x, y = next_x, next_y + HEIGHT / 2
    return f'<path d="{" ".join(steps)}" fill="none" stroke="#667" stroke-width="1.3" marker-end="url(#tip)"/>'


def _port(layout: Layout, room: str, path: list[str], leaving: bool) -> float:
    """Where on a box's side an arrow begins or ends: side by side, in the order of where they go."""
    mine = [p for p in layout.paths.values() if p[0 if leaving else -1] == room]
    mine.sort(key=lambda p: (layout.x[p[1 if leaving else -2]], p))
    gap = min(26.0, (BOX - 40) / max(1, len(mine) - 1))
    return layout.x[room] + (mine.index(path) - (len(mine) - 1) / 2) * gap


def _box(layout: Layout, room: str, others: Iterable[str], root: Path) -> str:
    """A room: its name, what it is for, and every room that it imports as a tooltip."""
    x, y = layout.middle(room)
    left, top = x - BOX / 2, y - HEIGHT / 2
    lines = _wrapped(WORDS.get(room) or purpose(root / "core" / room / "__init__.py"))
    first = y + (7 if len(lines) == 1 else 2)
    dashed = ' stroke-dasharray="5 3"' if room in ("cli", "benchmarks", "plugins") else ""
    title = f"{room} imports {', '.join(sorted(others)) or 'nothing'}"
    return "".join(
        [
            f'<g text-anchor="middle"><title>{escape(title)}</title>',
            f'<rect x="{left:.0f}" y="{top:.0f}" width="{BOX}" height="{HEIGHT}" rx="5" fill="white" ',
            f'stroke="#556"{dashed}/>',
            f'<text x="{x:.0f}" y="{first - 14:.0f}" font-size="13" font-weight="bold" fill="#223">{room}</text>',
            *(
                f'<text x="{x:.0f}" y="{first + 12 * k:.0f}" font-size="10" fill="#445">{escape(line)}</text>'
                for k, line in enumerate(lines)
            ),
            "</g>",
        ]
    )


def purpose(path: Path) -> str:
    """The first sentence of a room's ``__init__.py``."""
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(said.split()).partition(". ")[0].rstrip(".")


def _wrapped(text: str, most: int = 31) -> list[str]:
    """At most two lines."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) < most or not lines[-1]:
            lines[-1] = f"{lines[-1]} {word}".strip()
        else:
            lines.append(word)
    return [lines[0], lines[1] + (" …" if len(lines) > 2 else "")] if len(lines) > 1 else lines


def _figures():  # type: ignore[no-untyped-def]
    """tools/figures.py, which counts imports; tools are no package, so that they stay out of the wheel."""
    spec = importlib.util.spec_from_file_location("figures", ROOT / "tools" / "figures.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


figures = _figures()

if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    path.write_text(drawing(), encoding="utf-8")
