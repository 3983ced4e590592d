"""The picture of rooms is that of the code, and the tools count what they say."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def tool(name):
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_that_of_the_code():
    architecture = tool("architecture")
    assert architecture.drawing() == architecture.PICTURE.read_text(encoding="utf-8"), (
        "run: python tools/architecture.py"
    )


def test_every_room_is_in_the_picture_and_its_arrows_follow():
    architecture = tool("architecture")
    arrows = architecture.rooms()
    thin = architecture.thinned(arrows)
    assert set(arrows) == {room for row in architecture.rows() for room in row}
    for room, others in arrows.items():
        assert thin[room] <= others <= architecture.reached(thin, room)


def test_thinning_leaves_out_what_follows():
    architecture = tool("architecture")
    assert architecture.thinned({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}


FILES = {
    "core/a.py": "from counterlens.core.b import B\n\n\nclass A:\n    '''Words.'''\n",
    "core/b.py": "def b():\n    from counterlens.core import c\n\n    return c\n\n\nclass B:\n    pass\n",
    "core/c.py": "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from counterlens.core.a import A\n",
    "core/d.py": "def d():\n" + "    1\n" * 310,
    "plugins/x/p.py": "import counterlens.plugins.x.q\n\n\nclass A:\n    pass\n",
    "plugins/x/q.py": "def q():\n    import counterlens.plugins.x.p\n",
    "benchmarks/x.py": "",
    "cli/x.py": "# nothing\n",
    "tests/core/test_a.py": "",
}


@pytest.fixture
def figures(tmp_path):
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tool("figures").figures(tmp_path)


def test_figures_of_a_small_house(figures):
    assert figures["files directly in core/"] == "4"
    assert figures["most files in one folder (core, plugins, benchmarks, cli)"] == "4, 2, 1, 1"
    assert figures["circles of files, imports at load time"] == "0"
    assert figures["… with imports in functions"] == "1 (largest: 2 files)"
    assert figures["… with every import"] == "2 (largest: 3 files)"
    assert figures["classes that share their name with another"] == "1 names, 2 classes"
    assert figures["files over 300 lines, functions over 50"] == "1, 1"
    assert figures["core files without a test of their name"] == "3 of 4"


def test_lines_of_code_are_those_that_do_something(figures):
    every = sum(len(text.splitlines()) for path, text in FILES.items() if not path.startswith("tests"))
    code = every - (2 + 3 + 1 + 2) - 1 - 1  # blanks of a, b, c and p; the docstring of a; the comment of cli
    assert figures["lines of non-test code (without blanks, comments and docstrings)"] == f"{every} ({code})"
