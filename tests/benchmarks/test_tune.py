"""Numbers of a method as knobs, and a search that never sees the report split."""

import pytest

from counterlens.benchmarks import tune
from counterlens.core.errors import UsageError
from counterlens.core.problem.method import Method

METHOD = Method(
    name="m",
    summary="a test",
    inverter="edit-friendly skip=0.5",
    guidance=("target weight=2",),
    regularizers=("l1 weight=0.5", "l2"),
    search="sweep strengths=0.1,0.2",
)


def test_every_number_is_a_knob_within_its_bounds(registry):
    found = {knob.name: knob for knob in tune.knobs(METHOD, registry)}
    assert (found["inverter.skip"].low, found["inverter.skip"].high) == (0.125, 0.95)
    assert (found["guidance[0].weight"].low, found["guidance[0].weight"].high) == (0.5, 8)
    assert {"regularizers[0].weight", "regularizers[1].weight", "search.strengths"} <= found.keys()
    assert "search.together" not in found


def test_knobs_may_be_chosen(registry):
    (knob,) = tune.knobs(METHOD, registry, {"inverter.skip": (0.1, 0.3)})
    assert (knob.low, knob.high) == (0.1, 0.3)
    with pytest.raises(UsageError, match=r"no number 'inverter\.skips'"):
        tune.knobs(METHOD, registry, {"inverter.skips": (0, 1)})


def test_values_are_written_into_the_pieces(registry):
    found = {knob.name: knob for knob in tune.knobs(METHOD, registry)}
    values = {found["regularizers[1].weight"]: 3.0, found["search.strengths"]: 2.0, found["inverter.skip"]: 0.25}
    made = tune.changed(METHOD, values, registry)
    assert made.regularizers == ("l1 weight=0.5", "l2 weight=3.0")
    assert registry.make("search", made.search).strengths == (0.2, 0.4)
    assert registry.make("inverter", made.inverter).skip == 0.25
    assert tune.changed(METHOD, {}, registry) == METHOD


def test_failures_count_in_the_objective():
    rows = [
        {"flipped": True, "l1": 0.1},
        {"flipped": False, "l1": None, "failure": "x"},
        None,
        {"flipped": True, "l1": 0.1},
    ]
    assert tune.objective(rows, 1.0) == pytest.approx({"objective": 0.5 - 0.55, "flip_rate": 0.5, "l1": 0.55})


def test_the_search_finds_the_best_of_a_known_function(registry):
    pytest.importorskip("optuna")
    found = tune.knobs(METHOD, registry, {"inverter.skip": (0.1, 0.9)})

    def score(method):
        skip = registry.make("inverter", method.inverter).skip
        return {"objective": -((skip - 0.7) ** 2), "skip": skip}

    study = tune.search(METHOD, found, score, 25, registry)
    assert study.trials[0].user_attrs["skip"] == 0.5  # the method as it is comes first
    assert abs(study.best_trial.user_attrs["skip"] - 0.7) < 0.1
    again = tune.search(METHOD, found, score, 25, registry)
    assert [t.params for t in again.trials] == [t.params for t in study.trials]


def test_a_tuned_method_is_a_file_that_reads(registry, tmp_path):
    path = tune.write_method(METHOD, tmp_path / "m.yaml")
    assert Method.read(path) == METHOD == registry.method(str(path))
    (tmp_path / "bad.yaml").write_text("name: x\nsummary: y\nstep: 3\n")
    with pytest.raises(UsageError, match="step"):
        registry.method(str(tmp_path / "bad.yaml"))
    with pytest.raises(UsageError, match="No such file"):
        registry.method(str(tmp_path / "none.yaml"))
