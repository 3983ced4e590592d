"""The folders, the list of packages, and who may import whom."""

import ast
import configparser
import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("core", "plugins", "cli", "benchmarks")
MAKE = "counterlens.plugins.embedded.make"


def packages():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config["options"]["packages"].split()


def modules():
    """{module name: path} of everything that is packaged."""
    found = {}
    for folder in (*FOLDERS, "api"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = ["counterlens", *([] if folder == "api" else [folder]), *path.relative_to(ROOT / folder).parts]
            found[".".join(parts).removesuffix(".py").removesuffix(".__init__")] = path
    return found


def imports(path, top=False):
    """Names of counterlens modules that a file imports; ``top``: only when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = walk_top(tree) if top else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: a relative import"
            yield node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)


def walk_top(node):
    """The statements that run on import: no function bodies, nothing under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            yield from (part for other in child.orelse for part in (other, *walk_top(other)))
            continue
        yield child
        yield from walk_top(child)


def resolved(name, names, known):
    """The modules behind ``from name import names``."""
    children = [f"{name}.{part}" for part in names if f"{name}.{part}" in known]
    return children or ([name] if name in known else [])


def test_the_list_of_packages_is_that_of_the_folders():
    found = {"counterlens"}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join(["counterlens", *path.parent.relative_to(ROOT).parts]))
    assert sorted(packages()) == sorted(found - {MAKE})


def test_the_wheel_has_the_weights_of_the_domains_and_not_what_made_them(monkeypatch):
    from setuptools import Distribution

    monkeypatch.chdir(ROOT)
    project = Distribution({"script_name": "setup.py"})
    project.parse_config_files(["setup.cfg"])
    build = project.get_command_obj("build_py")
    build.ensure_finalized()
    taken = {package for package, _, _ in build.find_all_modules()}
    assert MAKE not in taken and "counterlens.plugins.embedded.content" in taken
    files = [file for package, _, _, names in build.data_files for file in names if package.endswith(".embedded")]
    assert any(file.endswith(".safetensors") for file in files) and not any("make" in Path(f).parts for f in files)


def test_domains_train_says_where_it_runs(monkeypatch):
    import counterlens.plugins.embedded as embedded
    from counterlens.core.errors import MissingError
    from counterlens.plugins.embedded.domains import Shapes

    for name in [name for name in sys.modules if name.startswith(MAKE)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(embedded, "__path__", [])  # as installed: there is no folder make
    with pytest.raises(MissingError, match="from a checkout"):
        Shapes.train()


def test_every_folder_with_code_is_a_package():
    for name, path in modules().items():
        assert (path.parent / "__init__.py").exists() or path.parent.name == "api", name


@pytest.mark.parametrize("folder", FOLDERS)
def test_arrows(folder):
    allowed = {
        "core": {"core"},
        "plugins": {"core", "plugins"},
        "benchmarks": {"core", "benchmarks"},
        "cli": {"core", "benchmarks", "cli"},
    }[folder]
    for path in (ROOT / folder).rglob("*.py"):
        for name, names in imports(path):
            assert name.partition(".")[0] not in FOLDERS, f"{path}: imports the root folder {name}"
            if name.partition(".")[0] != "counterlens":
                continue
            parts = name.split(".")[1:2] or [part for part in names if part in FOLDERS]
            assert set(parts) <= allowed, f"{path}: {folder} does not import {name}"


def test_a_plugin_imports_no_other_plugin():
    kinds = {path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py")}
    for kind in kinds:
        for path in (ROOT / "plugins" / kind).rglob("*.py"):
            if path.parent.name == "make":  # the scripts that made the embedded weights
                continue
            for name, names in imports(path):
                for module in resolved(name, names, modules()):
                    if module.startswith("counterlens.plugins."):
                        assert module.split(".")[2] == kind, f"{path} imports {module}"


def test_the_face_has_what_it_says():
    import counterlens

    for name in counterlens.__all__:
        assert getattr(counterlens, name) is not None
        assert name in dir(counterlens)
    with pytest.raises(AttributeError, match="no attribute 'Edito'"):
        _ = counterlens.Edito


def test_one_version():
    import counterlens

    assert f'version = "{counterlens.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_the_root_folders_are_not_imported_by_accident():
    import sys

    importlib.import_module("counterlens.core.plugin.registry")
    assert not {name for name in FOLDERS if name in sys.modules and "site-packages" not in str(sys.modules[name])}


def test_data_files_are_declared():
    config = (ROOT / "setup.cfg").read_text()
    for pattern in ("*.html.j2", "*.yaml", "py.typed"):
        assert re.search(re.escape(pattern), config), pattern
