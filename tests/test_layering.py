"""Who may import whom: rooms of core in layers, at run time, inside functions and under TYPE_CHECKING alike."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A room imports rooms of lower layers only; rooms of one layer do not know each other.
LAYERS = (
    ("errors",),
    ("utils", "linalg", "diffusion"),
    ("images",),
    ("data", "classifiers"),
    ("pieces",),
    ("problem", "models", "metrics"),
    ("search", "conditioning", "training", "runs", "testing"),
    ("h_space",),
    ("plugin",),
    ("engine",),
    ("workflows",),
)
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
# Within benchmarks and cli, the same: a part imports those before it.
BENCHMARKS = ("protocol", ("running", "stats"), ("report", "speed"))
CLI = (("options", "render"), "sheets", "commands", "nouns", "main", "reference")
PIECES_OF_PLUGINS = "plugin"  # the highest room of core that a plugin may import
MOST_FILES, MOST_LINES, MOST_OF_A_FUNCTION = 12, 300, 50
# Kinds of pieces: loaded when pieces are listed, so never torch, numpy, diffusers or transformers at the top.
LIGHT = (
    "core/pieces",
    "core/plugin",
    "core/problem/method_pieces.py",
    "core/problem/masker.py",
    "core/problem/method.py",
    "core/conditioning/captioner.py",
    "core/conditioning/directions.py",
    "core/h_space/finder.py",
    "core/training/trainer.py",
    "core/metrics/metric.py",
    "core/models/family.py",
    "core/data/domain.py",
)
HEAVY = {"torch", "torchvision", "numpy", "diffusers", "transformers", "PIL", "scipy", "sklearn"}


def files(folder):
    return sorted(p for p in (ROOT / folder).rglob("*.py"))


def imports(path):
    """(module, line) of every import of ours, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("counterlens"):
            if node.module == "counterlens":  # the public face
                continue
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ((name if exists(name) else node.module, node.lineno) for name in inside)
        elif isinstance(node, ast.Import):
            yield from ((a.name, node.lineno) for a in node.names if a.name.startswith("counterlens"))


def exists(module):
    path = ROOT.joinpath(*module.split(".")[1:])
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def room_of(parts):
    return parts[1].removesuffix(".py") if len(parts) > 1 else ""


def layer(order, name):
    return next((k for k, one in enumerate(order) if name == one or (isinstance(one, tuple) and name in one)), None)


@pytest.mark.parametrize("path", files("core"), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_of_core_imports_lower_rooms_only(path):
    own = room_of(path.relative_to(ROOT).parts)
    if path.name == "__init__.py" and path.parent.name == "core":
        return
    assert own in LAYER, f"{path}: a room that has no layer"
    for module, line in imports(path):
        parts = module.split(".")[1:]
        assert parts[0] == "core", f"{path}:{line}: core imports {module}"
        other = parts[1]
        assert other == own or LAYER[other] < LAYER[own], f"{path}:{line}: {own} imports {other}, which is not below it"


@pytest.mark.parametrize("folder, order", [("benchmarks", BENCHMARKS), ("cli", CLI)])
def test_parts_of_benchmarks_and_cli_import_lower_parts_only(folder, order):
    for path in files(folder):
        own = layer(order, room_of(path.relative_to(ROOT).parts))
        for module, line in imports(path):
            parts = module.split(".")[1:]
            if own is None or parts[0] != folder or len(parts) < 2 or parts[1] == room_of(path.relative_to(ROOT).parts):
                continue
            other = layer(order, parts[1])
            assert other is None or other < own, f"{path}:{line}: imports {module}, which is not below it"


def test_plugins_stay_below_the_engine():
    for path in files("plugins"):
        if "make" in path.parts:  # the scripts that made the embedded weights
            continue
        for module, line in imports(path):
            parts = module.split(".")[1:]
            if parts[0] == "core":
                assert LAYER[parts[1]] <= LAYER[PIECES_OF_PLUGINS], f"{path}:{line}: a plugin imports {module}"


def test_no_circle_of_files_of_any_kind():
    """Also of imports inside functions and under TYPE_CHECKING."""
    names = {}
    for folder in ("core", "plugins", "cli", "benchmarks"):
        for path in files(folder):
            parts = ["counterlens", *path.relative_to(ROOT).with_suffix("").parts]
            names[".".join(parts).removesuffix(".__init__")] = path
    graph = {
        n: {m for m, _ in imports(p) if m in names and m != n and names[m].name != "__init__.py"}
        for n, p in names.items()
    }
    done, trail = set(), []

    def visit(name):
        assert name not in trail, "circle: " + " -> ".join([*trail[trail.index(name) :], name])
        if name in done:
            return
        trail.append(name)
        for other in sorted(graph[name]):
            visit(other)
        trail.pop()
        done.add(name)

    for name in graph:
        visit(name)


@pytest.mark.parametrize("folder", ("core", "plugins", "cli", "benchmarks"))
def test_rooms_are_small(folder):
    for place in {path.parent for path in files(folder)}:
        found = [p for p in place.glob("*.py") if p.name != "__init__.py"]
        assert len(found) <= MOST_FILES, f"{place}: {len(found)} files"
    for path in files(folder):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= MOST_LINES, f"{path}: {lines} lines"


def test_listing_pieces_stays_light():
    for start in LIGHT:
        found = files(start) if not start.endswith(".py") else [ROOT / start]
        for path in found:
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                heavy = {name.partition(".")[0] for name in names} & HEAVY
                assert not heavy, f"{path}:{node.lineno}: imports {', '.join(heavy)} at the top"


def test_no_class_name_is_used_twice():
    owners: dict[str, list[str]] = {}
    for folder in ("core", "plugins", "benchmarks", "cli"):
        for path in files(folder):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    owners.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    twice = {name: places for name, places in owners.items() if len(places) > 1}
    assert not twice, "\n".join(f"{name}: {', '.join(places)}" for name, places in twice.items())


def test_functions_are_short():
    """At most 50 lines, without the docstring."""
    for folder in ("core", "plugins", "benchmarks", "cli"):
        for path in files(folder):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    has_doc = ast.get_docstring(node) is not None and len(node.body) > 1
                    first = node.body[1].lineno if has_doc else node.lineno
                    length = node.end_lineno - first + 1
                    assert length <= MOST_OF_A_FUNCTION, f"{path}:{node.lineno}: {node.name} has {length} lines"


def dataclasses_of(tree):
    """{name: its own fields} of the dataclasses of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(one) for one in node.decorator_list):
            fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
            yield node.name, [one for one in fields if "ClassVar" not in ast.unparse(one.annotation)]


def test_wide_dataclasses_are_built_by_keyword():
    """Who reads a call with five values or more has to see which is which."""
    trees = {
        p: ast.parse(p.read_text(encoding="utf-8")) for f in ("core", "plugins", "cli", "benchmarks") for p in files(f)
    }
    wide = {name for tree in trees.values() for name, fields in dataclasses_of(tree) if len(fields) > 4}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in wide:
                assert len(node.args) <= 4, f"{path}:{node.lineno}: {ast.unparse(node.func)} by position"
