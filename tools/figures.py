"""How the house stands, in figures: ``python tools/figures.py [FOLDER …]`` prints a table, a column a folder.

A folder is a checkout of any commit (``git worktree add --detach FOLDER COMMIT``); this one if none is given. Every
import counts, wherever it stands, as in tests/test_layering.py.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("core", "plugins", "benchmarks", "cli")
Graph = dict[str, set[str]]


def layers() -> tuple[tuple[str, ...], ...]:
    """Rooms of core in layers, lowest first: those that tests/test_layering.py holds the code to."""
    tree = ast.parse((ROOT / "tests" / "test_layering.py").read_text(encoding="utf-8"))
    (found,) = (n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "LAYERS")
    return ast.literal_eval(found)


def figures(root: Path) -> dict[str, str]:
    """Every figure of a checkout, by its name."""
    files = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"))]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}
    named = [path for path in files if path.name != "__init__.py"]
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    core = [path for path in named if path.is_relative_to(root / "core")]
    untested = [path for path in core if not list((root / "tests" / "core").rglob(f"test_{path.stem}.py"))]
    shared = [n for n in Counter(_classes(trees.values())).values() if n > 1]
    return {
        "files directly in core/": str(len(list((root / "core").glob("[!_]*.py")))),
        "most files in one folder (core, plugins, benchmarks, cli)": ", ".join(
            _most(root, folder) for folder in FOLDERS
        ),
        "circles of files, imports at load time": _circles(graph_of(root, at_load)),
        "… with imports in functions": _circles(graph_of(root, at_run)),
        "… with every import": _circles(graph_of(root)),
        "rooms of core, their layers": _rooms(root),
        "imports of core that no layer allows": str(len(upward(root))) if _rooms(root) != "none" else "–",
        "classes that share their name with another": f"{len(shared)} names, {sum(shared)} classes" if shared else "0",
        "files over 300 lines, functions over 50": f"{sum(n > 300 for n in lines.values())}, {_long(trees.values())}",
        "core files without a test of their name": f"{len(untested)} of {len(core)}",
        "median file, lines": f"{statistics.median(lines[path] for path in named):.0f}",
        "lines of non-test code (without blanks, comments and docstrings)": f"{sum(lines.values()):,} "
        f"({sum(_code(path, tree) for path, tree in trees.items()):,})",
    }


def _most(root: Path, folder: str) -> str:
    """Most files in one folder of this one or below it, without ``__init__.py``."""
    return str(max(Counter(path.parent for path in (root / folder).rglob("[!_]*.py")).values()))


def _classes(trees: Iterable[ast.Module]) -> Iterator[str]:
    yield from (node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))


def _long(trees: Iterable[ast.Module]) -> int:
    """Functions of more than 50 lines, their docstrings left out."""
    count = 0
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            has_doc = ast.get_docstring(node) is not None and len(node.body) > 1
            first = node.body[1].lineno if has_doc else node.lineno
            count += (node.end_lineno or first) - first + 1 > 50
    return count


def _code(path: Path, tree: ast.Module) -> int:
    """Lines with code: not blank, not a comment alone, in no docstring."""
    docs: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(
            node
        ):
            docs |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    texts = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    return sum(1 for number, text in texts if text.strip() and text.strip()[0] != "#" and number not in docs)


def at_run(tree: ast.AST) -> Iterator[ast.AST]:
    """Everything but what stands under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)):
            yield child
            yield from at_run(child)


def at_load(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs when a file is imported: no bodies of functions, nothing under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(tree):
        hidden = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        if not hidden and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from at_load(child)


def graph_of(root: Path, nodes: Callable[[ast.AST], Iterable[ast.AST]] = ast.walk) -> Graph:
    """{file: files that it imports} by their dotted names; packages themselves (``__init__.py``) are not followed."""
    paths = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"))]
    names = {".".join(path.relative_to(root).with_suffix("").parts): path for path in paths}
    return {
        name: {other for other in imported(nodes(ast.parse(path.read_text("utf-8"))), names) if other != name}
        for name, path in names.items()
    }


def imported(nodes: Iterable[ast.AST], names: Iterable[str]) -> Iterator[str]:
    """Files of ours behind the import statements among some nodes."""
    known = set(names)
    for node in nodes:
        asked: list[str] = []
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("counterlens"):
            asked = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            asked = [alias.name for alias in node.names]
        yield from (name for name in (one.removeprefix("counterlens.") for one in asked) if name in known)


def _circles(graph: Graph) -> str:
    """How many groups of files import each other in a circle, and how many files the largest has."""
    sizes = sorted((len(group) for group in circles(graph)), reverse=True)
    return f"{len(sizes)} (largest: {sizes[0]} files)" if sizes else "0"


def circles(graph: Graph) -> list[set[str]]:
    """Groups of files that reach each other."""
    reach = {name: _reached(graph, name) for name in graph}
    groups: list[set[str]] = []
    for name in graph:
        group = {other for other in reach[name] if name in reach[other]}
        if group and group not in groups:
            groups.append(group)
    return groups


def _reached(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    todo = list(graph[start])
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += graph[name]
    return seen


def room_of(name: str) -> str:
    """The room of a file of core, such as ``core.images.fit``: the folder or file below core."""
    return name.split(".")[1]


def _rooms(root: Path) -> str:
    number = len(list((root / "core").glob("*/__init__.py"))) + 1  # errors.py is one
    return f"{number} in {len(layers())}" if all((root / "core" / r).is_dir() for r in layers()[1]) else "none"


def upward(root: Path) -> list[str]:
    """Imports from a room of core to one that is not below it."""
    level = {room: number for number, rooms in enumerate(layers()) for room in rooms}
    pairs = ((a, b) for a, others in graph_of(root).items() for b in sorted(others) if a.startswith("core."))
    return [
        f"{a} imports {b}"
        for a, b in pairs
        if not b.startswith("core.") or (room_of(a) != room_of(b) and level[room_of(b)] >= level.get(room_of(a), 99))
    ]


if __name__ == "__main__":
    folders = [Path(name).resolve() for name in sys.argv[1:]] or [ROOT]
    columns = [figures(folder) for folder in folders]
    print("| |", *(f"{folder.name} |" for folder in folders))
    print("|---|" + "---|" * len(folders))
    for name in columns[0]:
        print(f"| {name} |", *(f"{column[name]} |" for column in columns))
