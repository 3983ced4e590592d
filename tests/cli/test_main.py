"""The boundary: every way to end has its exit code, and one line."""

import errno

import click
import pytest

from counterlens.cli import options
from counterlens.cli.main import main
from counterlens.core.errors import MissingError, PlanError, RunFailed, UsageError
from counterlens.core.plugin.hookspecs import hookimpl

VERBS = (
    "demo",
    "explain",
    "invert",
    "disagree",
    "bench",
    "train",
    "methods",
    "pieces",
    "plugins",
    "models",
    "domains",
    "runs",
    "doctor",
)


@pytest.fixture
def fails(monkeypatch):
    """A command ``fails`` that raises what it is told."""

    def install(error):
        @click.command()
        def fails():
            raise error

        monkeypatch.setitem(main.commands, "fails", fails)

    return install


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (RunFailed("broke"), 1, "error: broke"),
        (UsageError("wrong"), 2, "error: wrong"),
        (PlanError("no way"), 2, "error: no way"),
        (MissingError("gone"), 4, "error: gone"),
        (KeyboardInterrupt(), 130, "interrupted; what was finished is kept"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 4, "error: cannot write '/x/y': No space left"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 4, "error: cannot write '/x': Permission denied"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_errors_have_their_codes(cli, fails, error, code, line):
    fails(error)
    end = cli("fails")
    assert end.code == code
    assert end.err.strip().startswith(line)
    assert len(end.err.strip().splitlines()) == 1
    assert end.out == ""


def test_a_bug_keeps_its_traceback(cli, fails):
    fails(ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        main.main(["fails"], standalone_mode=False)


def test_help_names_every_verb_and_the_exit_codes(cli):
    end = cli("--help")
    assert end.code == 0
    for verb in VERBS:
        assert f"\n  {verb} " in end.out
    assert "130 interrupted" in end.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(cli, verb):
    end = cli(verb, "--help")
    assert end.code == 0
    assert "--json" in end.out or "list" in end.out


def test_version(cli):
    import counterlens

    assert cli("--version").out.strip() == f"counterlens, version {counterlens.__version__}"


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["explan"], "did you mean 'explain'?"),
        (["xyzzy"], "no such command 'xyzzy'"),
        (["--jsn"], "--jsn"),
        (["pieces", "shw"], "shw"),
        (["explain"], "IMAGE"),
        (["pieces", "show"], "NAME"),
    ],
)
def test_usage_errors_are_one_line_and_code_2(cli, args, hint):
    end = cli(*args)
    assert end.code == 2
    assert len(end.err.strip().splitlines()) == 1
    assert end.err.startswith("error: ")
    assert hint in end.err


def test_plugins_add_commands(cli, monkeypatch):
    class Brings:
        @hookimpl
        def counterlens_commands(self, group):
            @group.command("hello")
            def hello():
                """Say hello."""
                click.echo("hello")

            @group.command("explain")
            def other():
                click.echo("not ours")

    monkeypatch.setattr(main, "commands", {})
    options.registry().pm.register(Brings())
    assert cli("hello").out == "hello\n"
    assert "IMAGE" in cli("explain", "--help").out
    monkeypatch.setattr("counterlens.cli.main._strangers", lambda: True)
    assert "Say hello." in cli("--help").out


def test_a_plugin_whose_commands_break(cli, monkeypatch):
    class Broken:
        @hookimpl
        def counterlens_commands(self, group):
            raise RuntimeError("boom")

    monkeypatch.setattr("counterlens.cli.main._strangers", lambda: True)
    options.registry().pm.register(Broken())
    end = cli("--help")
    assert end.code == 0
    assert "warning: a plugin's commands are left out: RuntimeError: boom" in end.err


def test_broken_plugins_are_named_on_stderr(cli, monkeypatch):
    from counterlens.core.plugin.registry import Plugin

    options.registry.cache_clear()
    loaded = __import__("counterlens.core.plugin.registry", fromlist=["load_registry"]).load_registry()
    loaded.plugins.append(Plugin("bad", "bad-dist", "1.0", error="ImportError: gone"))
    monkeypatch.setattr("counterlens.core.plugin.registry.load_registry", lambda: loaded)
    end = cli("plugins", "list", "--json")
    assert end.code == 0
    assert "warning: plugin bad (bad-dist) is broken and left out: ImportError: gone" in end.err
    assert end.rows[-1]["status"] == "broken: ImportError: gone"
