"""What directions do to pictures, on the embedded pipeline."""

import pytest
import torch
from click.testing import CliRunner

from counterlens.cli.main import main
from counterlens.core.h_space import effects
from counterlens.core.h_space.job import FindRequest
from counterlens.core.h_space.shifts import load_shifts as load_bank
from counterlens.core.plugin.registry import load_registry
from counterlens.core.testing.tiny import tiny
from counterlens.core.workflows.find_directions import find_directions

torch.set_num_threads(1)


def test_the_attribute_that_changes_most_is_on_and_the_next_is_off():
    row = {"hue": 0.1, "size": 0.4, "angle": 0.2}
    assert effects.on_and_off(row) == {"on": "size", "on_change": 0.4, "off": "angle", "off_change": 0.2}
    assert effects.on_and_off(row, "hue")["off"] == "size"
    assert effects.on_and_off({"hue": 0.1})["off_change"] == 0.0


def test_the_trimmed_mean_leaves_out_one_in_a_hundred_at_either_end():
    values = torch.cat([torch.full((98,), 2.0), torch.tensor([-1e6, 1e6])])
    assert effects.trimmed(values) == 2.0


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bank")
    model = str(tiny("ddpm", folder / "ddpm"))
    registry = load_registry(third_party=False)
    finder = registry.make("finder", "random components=2 length=0.5")
    path = folder / "bank.safetensors"
    find_directions(registry, finder, FindRequest(model=model, count=4, steps=2, batch=4)).save(path)
    return path


def run(*args):
    result = CliRunner().invoke(main, ["directions", "measure", *map(str, args)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_strength_zero_changes_nothing_and_more_changes_more(bank):
    import json

    how = ("--classifier", "domain:shapes", "--count", 3, "--batch", 4, "--json", "--quiet", "--path", "l2")
    none, some, more = ([json.loads(line) for line in run(bank, "--strength", s, *how).splitlines()] for s in (0, 1, 4))
    assert [row["name"] for row in none] == ["random-0", "random-1"]
    assert all(change == 0 for row in none for change in row["changes"].values())
    for a, b in zip(some, more, strict=True):
        assert 0 < a["changes"]["p(bouba)"] < b["changes"]["p(bouba)"]
        assert a["path_length"] > 0


def test_the_path_length_is_the_squared_distance_over_the_squared_step(bank):
    from contextlib import ExitStack

    from counterlens.core.workflows.find_directions import open_job

    registry, one = load_registry(third_party=False), load_bank(bank).only(["random-0"])
    with ExitStack() as stack:
        quest = FindRequest(model=one.space.uri, site=one.space.site, steps=2, count=2, batch=4)
        job = stack.enter_context(open_job(registry, quest, {"mid-block": "this test"}))

        def distance(x, y):
            return (x - y).square().mean((1, 2, 3))

        found = effects.path_lengths(job, one, 1.0, distance, 2, 0.5)["random-0"]
        ((problem, inversion),) = effects.starts(job)
        at = effects.moved(problem, inversion, one.shifts[0].delta, one.space.site, (-1.0, -0.5, 0.5, 1.0))
    by_hand = torch.cat([distance(at[0], at[1]), distance(at[2], at[3])]) / 0.25
    assert found == pytest.approx(effects.trimmed(by_hand), rel=1e-6)


def test_bad_input(bank, tmp_path):
    result = CliRunner().invoke(main, ["directions", "measure", str(bank), "--path", "flip_rate"])
    assert "no distance of two pictures" in str(result.exception) + result.output
    result = CliRunner().invoke(main, ["directions", "measure", str(bank)])
    assert "nothing reads the pictures" in str(result.exception) + result.output
