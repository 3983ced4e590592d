"""Pages lead somewhere: links, paths and modules that they name are there, and every page is found from the index."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import counterlens

ROOT = Path(__file__).parent.parent
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
# A path of the repository, such as core/data/splits.py; placeholders (NAME.py) and patterns (*.yaml) are none.
PATH = re.compile(
    r"(?<![\w./-])((?:core|plugins|benchmarks|cli|tests|tools|docs|api)/[a-z0-9_/.-]*[a-z0-9_/])(?![\w*{])"
)
MODULE = re.compile(r"(?<![\w./-])counterlens((?:\.[a-z_]+)+)")


def name(page):
    return str(page.relative_to(ROOT))


def links(page):
    return [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files(page):
    for target in links(page):
        assert (page.parent / target).exists(), f"{name(page)} links to {target}"


def test_the_index_leads_to_every_page():
    index = ROOT / "docs" / "index.md"
    found = {(index.parent / target).resolve() for target in links(index)}
    assert not [name(page) for page in PAGES if page.resolve() not in found | {index.resolve()}]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_are_there(page):
    for path in PATH.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), f"{name(page)} names {path}"


def test_paths_of_rooms_are_there():
    """The architecture names files by their room, such as `engine/prepare.py`, some with what is in them."""
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    found = re.findall(r"`([a-z_]+)/([a-z_/]+\.py)(?::\s+(\w+))?`", text)
    inside = [(ROOT / "core" / room / file, name) for room, file, name in found if (ROOT / "core" / room).is_dir()]
    assert len(inside) > 10
    for path, name in inside:
        assert path.is_file(), path
        assert not name or re.search(rf"^(?:def|class) {name}\b", path.read_text(encoding="utf-8"), re.M), (path, name)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name)
def test_modules_are_there(page):
    for dotted in MODULE.findall(page.read_text(encoding="utf-8")):
        parts = dotted.strip(".").split(".")
        paths = [ROOT.joinpath(*parts), ROOT.joinpath(*parts[:-1])]  # a module, or a name in one
        there = any(path.is_dir() or path.with_suffix(".py").is_file() for path in paths[: len(parts)])
        assert there or parts[0] in counterlens.__all__, f"{name(page)} names counterlens{dotted}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_imports_of_examples_work(page):
    for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("counterlens"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert callable(getattr(module, alias.name)), f"{name(page)} imports {alias.name}"


def test_the_models_of_style_are_our_own_code():
    excerpts = re.findall(r"```python\n# (\S+)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.S)
    assert len(excerpts) == 3
    for path, code in excerpts:
        assert code in (ROOT / path).read_text(encoding="utf-8"), f"CONTRIBUTING.md: {path} is written otherwise now"


def test_what_is_looked_for_is_found():
    """The patterns of this file are not empty-handed."""
    said = "see core/data/splits.py and `tests/core/`, plugins/x/NAME.py, tests/core/test_gone.py, a/docs/b.md"
    assert PATH.findall(said) == ["core/data/splits.py", "tests/core/", "plugins/x", "tests/core/test_gone.py"]
    assert MODULE.findall("python -m counterlens.plugins.embedded.make.measure NAME") == [
        ".plugins.embedded.make.measure"
    ]
