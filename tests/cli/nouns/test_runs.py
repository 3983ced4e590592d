"""Runs are listed, shown and reported again from what is in their folders."""

import pytest
from PIL import Image

from counterlens.core.runs.folder import Run

MANIFEST = {
    "request": {},
    "method": {"name": "guided", "summary": "Guidance.", "steps": 50, "tau": 0.9},
    "plan": [],
    "model": "M",
    "family": "ddpm",
    "classifier": "C",
    "judge": None,
    "items": ["d1", "d2"],
    "seeds": {"user": 0},
    "device": "cpu",
    "dtype": "float32",
    "versions": {"counterlens": "0.1.0"},
    "platform": "Linux",
}


@pytest.fixture
def run(tmp_path):
    made = Run.create(tmp_path / "runs", "guided", "d" * 64, MANIFEST)
    record = {
        "digest": "d1",
        "image": "x.png",
        "source": "cat",
        "target": "dog",
        "flipped": True,
        "judge_flipped": None,
        "probabilities_before": {"cat": 0.9, "dog": 0.1},
        "probabilities_after": {"cat": 0.1, "dog": 0.9},
        "l1": 0.1,
        "unet_evaluations": 3,
        "seconds": 0.1,
        "failure": None,
    }
    pictures = {name: Image.new("RGB", (8, 8)) for name in ("source", "counterfactual")}
    made.write_item("d1", record, pictures)
    made.finish("done")
    return made


def test_list(cli, run):
    (row,) = cli("runs", "list", "--json").rows
    assert (row["name"], row["status"], row["method"]) == (run.name, "done", "guided")
    assert (row["asked"], row["finished"], row["flipped"]) == (2, 1, 1)
    assert run.name in cli("runs").out


@pytest.mark.parametrize("how", ["name", "beginning", "path"])
def test_show(cli, run, how):
    name = {"name": run.name, "beginning": run.name[:8], "path": run.path}[how]
    (found,) = cli("runs", "show", name, "--json").rows
    assert found["manifest"]["classifier"] == "C"
    assert [record["image"] for record in found["records"]] == ["x.png"]
    assert "x.png" in cli("runs", "show", name).out


def test_report_is_written_again(cli, run):
    end = cli("runs", "report", run.name)
    assert end.code == 0
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "1 of 1 images flipped" in page and "x.png" in page


def test_a_folder_that_is_no_run(cli, tmp_path):
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "manifest.json").write_text("{")
    end = cli("runs", "show", "no")
    assert end.code == 2
    assert "not a run folder" in end.err


def test_failures_are_kept_by_a_second_report(cli, run):
    lost = {
        "digest": "d2",
        "image": "y.png",
        "source": "cat",
        "target": "cat",
        "flipped": False,
        "l1": None,
        "unet_evaluations": 0,
        "seconds": 0.0,
        "failure": "already decided as 'cat'",
    }
    run.write("report.json", {"records": [lost]})
    assert cli("runs", "report", run.name).code == 0
    assert cli("runs", "report", run.name).code == 0
    assert "already decided as" in (run.path / "report.html").read_text(encoding="utf-8")
    (row,) = cli("runs", "--json").rows
    assert (row["finished"], row["failed"], row["flipped"]) == (1, 1, 1)
