"""How work is cut and handed out."""

import numpy as np

from counterlens.benchmarks.protocol.entries import Entry
from counterlens.benchmarks.running.units import Unit, efficiency, expected, following, makespan, next_unit, units

ROWS = [Entry("a", model="m"), Entry("b", model="n"), Entry("c", model="m"), Entry("d", follows=("a",))]


def test_units_share_a_pipeline_and_cover_every_item_once():
    found = units(ROWS, images=10, batch=4)
    assert {(unit.model, unit.rows) for unit in found} == {("m", ("a", "c")), ("n", ("b",))}
    items = [(row, k) for unit in found for row in unit.rows for k in unit.images]
    assert sorted(items) == sorted((row, k) for row in "abc" for k in range(10))
    assert [unit.rows for unit in following(ROWS, 10, 4)] == [("d",)] * 3
    assert len({unit.name for unit in found}) == len(found)


def test_a_skipped_row_is_no_work():
    assert units([Entry("a", model="m", skipped="why")], 10, 4) == []


def test_a_worker_stays_with_its_pipeline_unless_that_takes_long():
    seconds = {"a": 1.0, "b": 1.5, "c": 9.0}
    waiting = [Unit("m", ("a",), 0, 4), Unit("n", ("b",), 0, 4)]
    assert next_unit(waiting, seconds).model == "n"
    assert next_unit(waiting, seconds, holds="m").model == "m"
    assert next_unit([*waiting, Unit("o", ("c",), 0, 4)], seconds, holds="m").model == "o"


def test_expected_costs_are_those_recorded():
    records = [{"method": "a", "seconds": 2.0}, {"method": "a", "seconds": 4.0}, {"method": "a", "failure": "x"}]
    found = expected([Entry("a"), Entry("b", method={"steps": 30})], records)
    assert found == {"a": 3.0, "b": 0.3}


def test_makespan_of_a_hand_made_schedule():
    assert makespan([3, 3, 2, 2, 2], workers=2) == 7  # Graham's example: 6 would be best
    assert makespan([5], workers=4) == 5
    assert efficiency([1, 1, 1, 1], workers=2) == 1.0


def test_longest_first_beats_the_order_in_which_items_come():
    rng = np.random.default_rng(0)
    costs = rng.lognormal(0, 1, 2000).tolist()
    assert efficiency(costs, 64) > 0.99
    assert efficiency(costs, 64) > efficiency(costs, 64, [1.0] * len(costs))
