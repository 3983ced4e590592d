"""Work on many items at once, where one that fails must not take the others with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch

from counterlens.core.errors import CounterlensError

Item = TypeVar("Item")
Result = TypeVar("Result")


def halved(
    items: Sequence[Item],
    work: Callable[[Sequence[Item], int], Iterable[Result]],
    fail: Callable[[Item, str], Result],
    size: int = 1,
    strict: bool = False,
) -> Iterator[Result]:
    """What ``work(items, size)`` gives; if it fails, on either half; ``fail(item, reason)`` for one that fails alone.

    Where memory runs out ``size`` (rows in a network call) is halved as well, down to 1. ``strict``: see ``reason_of``.
    """
    try:
        yield from work(items, size)
        return
    except Exception as error:
        full = isinstance(error, torch.OutOfMemoryError)
        reason = reason_of(error, strict)
    # Out of the handler: the exception holds the frames, and they the tensors, of the batch that failed.
    if full and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if len(items) == 1 and not (full and size > 1):
        yield fail(items[0], reason)
        return
    half = (len(items) + 1) // 2
    for part in (items[:half], items[half:]):
        if part:
            yield from halved(part, work, fail, max(1, size // 2) if full else size, strict)


def reason_of(error: Exception, strict: bool = False) -> str:
    """Why an item failed, in one line; what is no failure of an item is raised.

    ``strict``: an exception that no piece should raise is a bug; else it is a failure with its type's name.
    """
    expected = isinstance(error, (CounterlensError, RuntimeError, FloatingPointError))
    if (isinstance(error, CounterlensError) and error.exit_code != 1) or (strict and not expected):
        raise error
    line = next(iter(str(error).splitlines()), "")
    return line if expected and line else f"{type(error).__name__}: {line}"
