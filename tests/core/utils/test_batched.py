"""Anything in parts."""

from counterlens.core.utils.batched import batched


def test_parts_are_in_order_and_at_most_so_large():
    assert list(batched(range(5), 2)) == [(0, 1), (2, 3), (4,)]
    assert list(batched([], 3)) == [] and list(batched("ab", 0)) == [("a",), ("b",)]


def test_things_are_asked_for_when_they_are_needed():
    asked = []
    parts = batched((asked.append(k) or k for k in range(9)), 3)
    assert next(parts) == (0, 1, 2) and asked == [0, 1, 2]
