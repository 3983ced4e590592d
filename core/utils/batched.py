"""Anything in parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Thing = TypeVar("Thing")


def batched(things: Iterable[Thing], size: int) -> Iterator[tuple[Thing, ...]]:
    """Tuples of at most ``size`` (at least one), in order; itertools has it from Python 3.12 on.

    >>> list(batched("abc", 2))
    [('a', 'b'), ('c',)]
    """
    source = iter(things)
    while part := tuple(islice(source, max(1, size))):
        yield part
