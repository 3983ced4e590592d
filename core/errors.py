"""Errors that a user can act on: one line each, with what is wrong, what to do, and the exit code.

The library raises these; one boundary in the command line prints the line and exits with the code.
Anything else is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CounterlensError(Exception):
    """Base class: ``str(error)`` is the one line shown to the user."""

    exit_code = 1


class RunFailed(CounterlensError):
    """A failure while running: a broken item, not enough space, a number that is not finite (exit 1)."""


class UsageError(CounterlensError):
    """Wrong input, found before anything was loaded: a name, a file, an option (exit 2)."""

    exit_code = 2


class PlanError(UsageError):
    """A method and a pipeline that do not go together, found before any weight is loaded (exit 2)."""


class MissingError(CounterlensError):
    """Something of the environment is missing: weights, an extra, memory, space (exit 4)."""

    exit_code = 4


class PoolFull(MissingError):
    """A pipeline does not fit beside those on loan."""


class DirtyReturn(CounterlensError):
    """A borrower left hooks, modes or replaced forwards behind in a shared pipeline."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """An error for a name that does not exist, with a suggestion and the list of those that do.

    >>> str(unknown("method", "guidde", ["guided", "h-space"]))
    "unknown method 'guidde': did you mean 'guided'? known: guided, h-space"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 1, 0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UsageError(f"unknown {kind} {name!r}: {hint}known: {', '.join(names) or 'none'}")
