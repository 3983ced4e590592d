"""Does a site carry meaning?"""

from contextlib import ExitStack

import pytest

from counterlens.core.errors import UsageError
from counterlens.core.h_space.job import FindRequest
from counterlens.core.h_space.probe import probe
from counterlens.core.plugin.registry import load_registry
from counterlens.core.workflows.find_directions import open_job

REGISTRY = load_registry(third_party=False)


NEEDS = {"mid-block": "this test", "labels": "this test"}


@pytest.fixture(scope="module")
def job():
    with ExitStack() as stack:
        images = tuple(f"shapes:{k}" for k in (2, 3, 4, 5, 6, 10, 12, 13))
        quest = FindRequest(images=images, steps=4, inverter="edit-friendly")
        yield stack.enter_context(open_job(REGISTRY, quest, NEEDS))


def test_a_probe_compares_sites_at_equal_length(job):
    rows = list(probe(job, ["up.1"], 0.3))
    assert [row["site"] for row in rows] == ["up.1"]
    for row in rows:
        assert row["n"] == 8 and len(row["r2_steps"]) == 4 and row["r2"] == max(row["r2_steps"])
        assert all(0 <= row[k] <= 1 for k in ("swap", "gradient", "mean-difference", "random"))
    (up,) = rows
    assert up["gradient"] > up["random"] and up["gradient_l1"] > 0
    with pytest.raises(UsageError, match="all decided as one class"), ExitStack() as stack:
        same = FindRequest(images=("shapes:3", "shapes:4"), steps=4)
        list(probe(stack.enter_context(open_job(REGISTRY, same, NEEDS)), ["up.1"], 0.3))
