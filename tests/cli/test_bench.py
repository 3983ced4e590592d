"""``counterlens bench`` on the embedded shapes, with controls only: no pipeline is loaded."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def bench(cli):
    def call(*args, workers=1):
        return cli("bench", "--suite", "smoke", "--workers", workers, "--json", *args)

    return call


def test_the_last_line_is_the_table_under_its_protocol(bench):
    done = bench("--methods", "identity", "--controls", "pgd,random", "--limit", 3)
    assert done.code == 0, done.err
    last = done.rows[-1]
    assert last["complete"] and last["finished"] == last["asked"] == 9 and last["failed"] == 0
    assert last["protocol"]["limit"] == 3 and len(last["protocol"]["hash"]) == 64
    cells = {(row["method"], row["metric"]): row for row in last["rows"]}
    assert cells["identity", "flip_rate"]["value"] == 0 and cells["identity", "l1"]["value"] == 0
    assert cells["pgd", "flip_rate"]["value"] == 1
    for row in cells.values():
        assert {"method", "metric", "value", "n", "population", "ci95", "higher_is_better"} <= row.keys()
        assert row["n"] <= 3 and row.get("asked", 3) == 3
    folder = Path(last["run"])
    assert (folder / "table.md").read_text().startswith("| method |")
    assert last["protocol"]["hash"][:12] in (folder / "table.md").read_text()


def test_a_second_call_does_nothing_again(bench):
    first = bench("--methods", "pgd", "--controls", "none", "--limit", 2).rows[-1]
    items = {path: path.stat().st_mtime_ns for path in Path(first["run"]).glob("items/*/item.json")}
    second = bench("--methods", "pgd", "--controls", "none", "--limit", 2).rows[-1]
    assert second["run"] == first["run"] and len(items) == 2
    assert {path: path.stat().st_mtime_ns for path in items} == items


def test_damaged_items_are_done_again(bench):
    first = bench("--methods", "pgd", "--controls", "none", "--limit", 2).rows[-1]
    one, other = sorted(Path(first["run"]).glob("items/*/item.json"))
    record = json.loads(one.read_text())
    one.write_text(one.read_text().replace('"flipped": true', '"flipped": false'))
    (other.parent / "counterfactual.png").write_bytes(b"no picture")
    second = bench("--methods", "pgd", "--controls", "none", "--limit", 2).rows[-1]
    assert second["finished"] == 2 and json.loads(one.read_text())["hash"] == record["hash"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--suite", "smokee"), "did you mean 'smoke'"),
        (("--methods", "guidedd"), "did you mean 'guided'"),
        (("--metric", "l3"), "unknown metric 'l3'"),
        (("--data", "domain:shapes", "--suite", "smoke"), "not both"),
        (("--data", "domain:shape"), "did you mean 'shapes'"),
        (("--data", "nowhere:x"), "unknown data scheme"),
        (("--suite", "none.yaml"), "No such file"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(cli, args, words):
    done = cli("bench", *args)
    assert done.code == 2 and words in done.err, done.err
    assert not Path("runs").exists()


def test_suites_are_listed(cli):
    assert {row["name"] for row in cli("bench", "--list", "--json").rows} >= {"smoke", "shapes", "digits"}
