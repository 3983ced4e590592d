"""Figures about figures: hand-made events."""

import pytest

from counterlens.benchmarks.speed.scaling import overhead, schedule


def event(seconds, own, loads=False):
    return {"seconds": seconds, "own": own, "loads": loads}


def test_overhead_leaves_out_the_units_that_load():
    assert overhead([event(30, 10, loads=True), event(10.1, 10), event(10.3, 10)]) == pytest.approx(0.02)


def test_a_schedule_of_many_workers_on_uneven_units():
    even = [event(2.0, 2.0)] * 10
    assert schedule(even) == schedule(even, known=False) == 1.0
    uneven = [event(s, s) for s in (1, 1, 1, 2, 2, 4)]
    assert 0.85 < schedule(uneven, known=False) < schedule(uneven) <= 1.0
