"""``counterlens bench`` on the embedded shapes, with controls only: no pipeline is loaded."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from counterlens.core.data import training_images
from counterlens.core.utils.digest import image_digest
from counterlens.plugins.classifiers.small_cnn import build


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
        (("--data", "nowhere:x"), "unknown data scheme 'nowhere': known: csv, domain, folder, hf, npz"),
        (("--data", "domain:shapes", "--crop", "pad"), "--crop is about folder:DIR"),
        (("--data", "domain:shapes", "--split", "all"), "unknown split of domain 'shapes' 'all'"),
        (("--data", "domain:shapes?first=3"), "unknown option 'first'"),
        (("--suite", "none.yaml"), "No such file"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(cli, args, words):
    done = cli("bench", *args)
    assert done.code == 2 and words in done.err, done.err
    assert not Path("runs").exists()


def test_suites_are_listed(cli):
    assert {row["name"] for row in cli("bench", "--list", "--json").rows} >= {"smoke", "shapes", "digits"}


SMALL = ("--methods", "pgd", "--limit", 2)


def test_damage_is_found_and_done_again_on_request(bench, cli):
    run = bench(*SMALL, "--controls", "identity").rows[-1]["run"]
    assert cli("runs", "verify", run, "--json").code == 0
    items = sorted(Path(run).glob("items/*/item.json"))
    before = {path: json.loads(path.read_text())["hash"] for path in items}
    items[0].write_text(items[0].read_text().replace('"l1": 0', '"l1": 1'))
    (items[1].parent / "source.png").unlink()
    items[2].write_text("{")
    items[3].unlink()
    found = cli("runs", "verify", run, "--json")
    assert found.code == 1
    (row,) = found.rows
    assert sorted(row["damaged"].values()) == [
        "item.json cannot be read",
        "item.json was changed",
        "source.png is gone",
    ]
    assert row["missing"] == [items[3].parent.name] and row["whole"] == 0
    assert cli("runs", "verify", run, "--redo", "--json").code == 0
    assert {path: json.loads(path.read_text())["hash"] for path in items} == before


def test_runs_of_one_protocol_are_compared(bench, cli):
    one = bench(*SMALL, "--controls", "identity", "--out", "one").rows[-1]["run"]
    other = bench(*SMALL, "--controls", "none", "--out", "other").rows[-1]["run"]
    found = cli("runs", "diff", one, other, "--json")
    assert found.code == 0, found.err
    assert found.rows[0]["items"] == {"both": 2, "identical": 2}
    assert {row["difference"] for row in found.rows[0]["rows"] if row["metric"] == "l1"} == {0.0}


def test_runs_of_different_protocols_are_refused_with_the_difference(bench, cli):
    one = bench(*SMALL, "--controls", "none").rows[-1]["run"]
    other = bench("--methods", "pgd", "--limit", 1, "--seed", 7, "--controls", "none").rows[-1]["run"]
    found = cli("runs", "diff", one, other)
    assert found.code == 2
    assert "limit: 2 and 1; seed: 0 and 7" in found.err


def test_a_half_finished_run_is_reported_as_such(bench, cli):
    run = Path(bench(*SMALL, "--controls", "identity").rows[-1]["run"])
    for digest in json.loads((run / "manifest.json").read_text())["items"]["pgd"]:
        (run / "items" / digest / "item.json").unlink()
    found = cli("runs", "report", run, "--json")
    assert found.code == 0, found.err
    assert (found.rows[0]["asked"], found.rows[0]["finished"]) == (4, 2)
    page = (run / "report.html").read_text()
    assert "This run is not finished: 2 of 4 items are missing." in page and "not finished" in page
    (listed,) = cli("runs", "list", "--json").rows
    assert (listed["asked"], listed["finished"]) == (4, 2)


def test_a_study_keeps_its_key_apart(bench, cli):
    run = bench("--methods", "reconstruct", "--limit", 2, "--controls", "none", "--steps", 2).rows[-1]["run"]
    none = cli("runs", "study", run)
    assert none.code == 2 and "nothing to ask about" in none.err


def test_metrics_without_weights_are_listed_before_anything_runs(bench, cli, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    asked = (*SMALL, "--controls", "none", "--metric", "lpips", "--metric", "l1", "--metric", "s3")
    found = cli("bench", "--suite", "smoke", *asked)
    assert found.code == 4 and "lpips" in found.err and "s3" in found.err and "--skip-unavailable" in found.err
    assert not Path("runs").exists()
    last = bench(*asked, "--skip-unavailable").rows[-1]
    assert {row["metric"] for row in last["rows"]} == {"l1"}
    assert [note.split(":")[1].strip() for note in last["notes"]] == ["lpips", "s3"]


def test_methods_are_ranked_over_runs(bench, cli):
    one = bench("--methods", "reconstruct", "--limit", 2, "--controls", "none", "--steps", 2, "--out", "one").rows[-1]
    ranked = cli("runs", "leaderboard", one["run"], "--json")
    assert ranked.code == 0 and ranked.rows == []  # controls take no part
    assert cli("runs", "leaderboard", "nothing").code == 2


def test_what_costs_more_than_the_budget_is_marked(cli, tmp_path):
    protocol = "data: 'domain:shapes', classifier: 'domain:shapes', limit: 2, batch: 2, metrics: [l1], budget: 10"
    (tmp_path / "s.yaml").write_text(f"name: s\nsummary: s\ncontrols: []\nprotocol: {{{protocol}}}\n")
    done = cli("bench", "--suite", "s.yaml", "--methods", "pgd,identity", "--workers", 1, "--json")
    assert done.code == 0, done.err
    (note,) = done.rows[-1]["notes"]
    assert note.startswith("pgd: 2 of 2 items cost more than the budget of 10 evaluations")


def test_metrics_outside_a_map_see_the_map_of_the_item(bench):
    options = ("--methods", "differential", "--controls", "none", "--metric", "kept_max", "--metric", "leakage")
    done = bench(*options, "--limit", 1)
    cells = {row["metric"]: row for row in done.rows[-1]["rows"]}
    assert cells["kept_max"]["value"] == 0 and cells["kept_max"]["nan"] == 0
    assert 0 <= cells["leakage"]["value"] < 0.02


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """An archive of declared parts, a black box that decides by brightness, and pixels of the test part."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 60), ("val", 12), ("test", 24)):
        labels = np.arange(count) % 2
        pixels = rng.integers(0, 100, (count, 12, 12)) + 120 * labels[:, None, None]
        arrays[f"{part}_images"] = pixels.astype(np.uint8)
        arrays[f"{part}_labels"] = labels
    np.savez(tmp_path / "a.npz", **arrays)
    (tmp_path / "bright.py").write_text(
        "import numpy as np\n"
        "def ask(images):\n"
        "    p = np.asarray(images).mean((1, 2, 3))\n"
        "    return np.stack([1 - p, p], 1)\n"
        'ask.labels = ("0", "1")\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield [image_digest(np.repeat(one[..., None], 3, -1)) for one in arrays["test_images"]]
    sys.modules.pop("bright", None)


ARCHIVE = ("--data", "npz:a.npz", "--classifier", "python:bright:ask", "--methods", "identity", "--controls", "none",
           "--metric", "l1", "--workers", 1, "--json")  # fmt: skip


def test_a_declared_test_part_is_what_is_benchmarked(parts, cli):
    done = cli("bench", *ARCHIVE, "--limit", 50)
    assert done.code == 0, done.err
    manifest = json.loads((Path(done.rows[-1]["run"]) / "manifest.json").read_text())
    assert sorted(job["digest"] for job in manifest["images"]) == sorted(parts)
    other = cli("bench", *ARCHIVE, "--split", "validation").rows[-1]
    assert other["protocol"]["split"] == "validation" and other["asked"] == 12


def test_training_images_are_refused_unless_forced_and_then_said(parts, cli):
    training_images.write_record(Path("judge.safetensors"), parts[:2], "npz:a.npz")
    network = build("4", 2)
    about = {"arch": "small-cnn:4", "labels": "0,1", "size": "16"}
    save_file(network.state_dict(), "judge.safetensors", about)
    judged = (*ARCHIVE, "--judge", "file:judge.safetensors")
    refused = cli("bench", *judged)
    assert refused.code == 2 and "the judge file:judge.safetensors was trained on 2 of the 24 images" in refused.err
    assert not Path("runs").exists()
    done = cli("bench", *judged, "--force")
    assert done.code == 0, done.err
    (note,) = done.rows[-1]["notes"]
    assert "was trained on 2 of the 24 images" in note and note.endswith("(--force)")
    assert "was trained on 2 of the 24 images" in (Path(done.rows[-1]["run"]) / "report.html").read_text()
