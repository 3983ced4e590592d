"""The command line in this process: exit code, stdout and stderr, without third-party plugins."""

import json
from types import SimpleNamespace

import pytest

from counterlens.cli import options
from counterlens.cli.main import entry
from counterlens.core.plugin import registry


@pytest.fixture(autouse=True)
def only_built_ins(monkeypatch, tmp_path):
    """Third-party plugins are never loaded, no progress is shown, and every command runs in an empty folder."""
    built_in = registry.load_registry
    monkeypatch.setattr(
        "counterlens.core.plugin.registry.load_registry", lambda third_party=True: built_in(third_party=False)
    )
    monkeypatch.setattr("counterlens.cli.main._strangers", lambda: False)
    monkeypatch.setattr("counterlens.cli.render.PATIENCE", 1e6)  # a slow machine must not change what is printed
    monkeypatch.chdir(tmp_path)
    options.registry.cache_clear()
    yield
    options.registry.cache_clear()


@pytest.fixture
def cli(capfd):
    """``cli("explain", "x.png")`` -> code, out, err, and ``rows`` (the JSON lines of stdout)."""

    def call(*args):
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            entry([str(arg) for arg in args])
        out, err = capfd.readouterr()
        rows = [json.loads(line) for line in out.splitlines()] if "--json" in args else []
        return SimpleNamespace(code=end.value.code, out=out, err=err, rows=rows)

    return call
