"""The command ``counterlens``: one boundary for errors, and verbs that are imported when they are asked for."""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from counterlens import __version__
from counterlens.cli.options import registry, warn
from counterlens.core.errors import CounterlensError

# Every verb and noun, in the order of the help, with the folder of its module.
VERBS = {
    "demo": "commands",
    "explain": "commands",
    "fan": "commands",
    "invert": "commands",
    "disagree": "commands",
    "bench": "commands",
    "tune": "commands",
    "train": "commands",
    "data": "commands",
    "caption": "commands",
    "neurons": "nouns",
    "directions": "nouns",
    "methods": "nouns",
    "pieces": "nouns",
    "plugins": "nouns",
    "models": "nouns",
    "domains": "nouns",
    "runs": "nouns",
    "doctor": "commands",
}
INTERRUPTED = 130


class Verbs(click.Group):
    """A group whose commands are modules of ``counterlens.cli``, and those that plugins add."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        if _strangers():
            self.add_from_plugins()
        return [*VERBS, *sorted(self.commands.keys() - VERBS.keys())]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in VERBS:
            return getattr(importlib.import_module(f"counterlens.cli.{VERBS[name]}.{name}"), name)
        if name not in self.commands:
            self.add_from_plugins()
        return self.commands.get(name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            near = difflib.get_close_matches(name, self.list_commands(ctx), 1, 0.5)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"no such command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def add_from_plugins(self) -> None:
        """Let plugins add their commands; a command of ours cannot be replaced."""
        try:
            registry().pm.hook.counterlens_commands(group=self)
        except Exception as error:  # a stranger's hook must not take the command line down
            warn(f"a plugin's commands are left out: {type(error).__name__}: {error}")


def _strangers() -> bool:
    """Whether any plugin is installed beside our own; asking the metadata is faster than loading the registry."""
    from importlib import metadata

    return bool(metadata.entry_points(group="counterlens"))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "--version", prog_name="counterlens")
def main() -> None:
    """Why did the classifier decide so? Visual counterfactuals with diffusion models.

    stdout is data (--json: one object a line), stderr is progress and warnings.

    Exit codes: 0 done; 1 a failure of ours or a failed run; 2 usage or plan, nothing was loaded; 3 ran, but at least
    one image did not flip; 4 environment (weights, extra, memory); 130 interrupted.
    """


def entry(args: Sequence[str] | None = None) -> NoReturn:
    """Run and exit: an error that a user can act on is one line on stderr; a bug of ours keeps its traceback."""
    try:
        code = main.main(args=args, prog_name="counterlens", standalone_mode=False)
        sys.stdout.flush()
    except click.Abort:
        _fail("interrupted; what was finished is kept", INTERRUPTED)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "counterlens"
        _fail(f"error: {error.format_message()} (see: {where} --help)", error.exit_code)
    except click.ClickException as error:
        _fail(f"error: {error.format_message()}", error.exit_code)
    except CounterlensError as error:
        _fail(f"error: {error}", error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        place = f" {error.filename!r}" if error.filename else ""
        _fail(f"error: cannot write{place}: {error.strerror}; free some space or choose another --out", 4)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(line: str, code: int) -> NoReturn:
    click.echo(line, err=True)
    sys.exit(code)
