"""Work on many items: one that fails does not take the others with it."""

import pytest
import torch

from counterlens.core.engine.halved import halved
from counterlens.core.errors import RunFailed, UsageError


def run(items, bad, error, size=1, strict=False):
    """(results, the batches that were tried with their size)."""
    tried = []

    def work(part, rows):
        tried.append((list(part), rows))
        if bad(part, rows):
            raise error
        return [(one, "done") for one in part]

    return list(halved(items, work, lambda one, reason: (one, reason), size, strict)), tried


def test_what_works_is_done_together():
    found, tried = run([1, 2, 3], lambda *_: False, RuntimeError())
    assert found == [(k, "done") for k in (1, 2, 3)] and tried == [([1, 2, 3], 1)]


def test_the_bad_one_fails_alone_and_in_its_place():
    found, tried = run([1, 2, 3, 4, 5], lambda part, _: 3 in part, RunFailed("3 is bad\nsecond line"))
    assert found == [(1, "done"), (2, "done"), (3, "3 is bad"), (4, "done"), (5, "done")]
    assert [part for part, _ in tried] == [[1, 2, 3, 4, 5], [1, 2, 3], [1, 2], [3], [4, 5]]


def test_out_of_memory_makes_calls_smaller_down_to_one_row():
    full = torch.OutOfMemoryError("out of memory")
    found, tried = run([1, 2], lambda part, rows: rows > 2, full, size=8)
    assert found == [(1, "done"), (2, "done")]
    assert tried == [([1, 2], 8), ([1], 4), ([1], 2), ([2], 4), ([2], 2)]
    assert run([1], lambda *_: True, full, size=2)[0] == [(1, "out of memory")]


def test_what_is_no_failure_of_an_item_ends_the_run():
    with pytest.raises(UsageError):
        run([1, 2], lambda *_: True, UsageError("which classifier?"))
    with pytest.raises(KeyError):
        run([1, 2], lambda *_: True, KeyError("bug"), strict=True)
    assert run([1], lambda *_: True, KeyError("bug"))[0] == [(1, "KeyError: 'bug'")]
