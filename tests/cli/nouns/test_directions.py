"""``counterlens directions``: find, show, apply, name, combine, and what is refused."""

import json

import pytest
from click.testing import CliRunner
from PIL import Image

from counterlens.cli.main import main


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("directions") / "random.safetensors"
    how = ["--domain", "shapes", "--site", "up.1", "--steps", "3", "--count", "4", "--components", "2"]
    found = run("find", "random", *how, "--out", str(path), "--json", "-q")
    assert [json.loads(line)["name"] for line in found.output.splitlines()] == ["random-0", "random-1"]
    return str(path)


def run(*args):
    return CliRunner().invoke(main, ["directions", *args])


def test_lists_and_options_of_finders():
    names = [json.loads(line)["name"] for line in run("list", "--json").output.splitlines()]
    assert {"counterfactual", "random", "supervised"} <= set(names)
    text = run("find", "supervised", "--help").output
    assert "--form" in text and "--site" in text and "--keep-length" in text


def test_show(file):
    shown = json.loads(run("show", file, "--json").output)
    assert shown["site"] == "up.1" and shown["steps"] == 3 and shown["seed"] == 0
    assert [row["name"] for row in shown["directions"]] == ["random-0", "random-1"]
    assert "up.1" in run("show", file).output


def test_apply_writes_a_picture_and_a_row_for_each_cell(file, tmp_path):
    out = tmp_path / "strip.png"
    how = ["--image", "shapes:3", "--strengths", "0,1", "--pick", "random-1*9", "--windows", "0:1,0.5:1"]
    found = run("apply", file, *how, "--out", str(out), "--json", "-q")
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert [(row["window"], row["strength"]) for row in rows] == [("0:1", 0), ("0:1", 1), ("0.5:1", 0), ("0.5:1", 1)]
    assert rows[0]["l1"] < 1e-4 < rows[1]["l1"] and rows[0]["decided"] == "bouba"
    with Image.open(out) as picture:
        assert min(picture.size) > 100


def test_names_and_sums(file, tmp_path):
    out = str(tmp_path / "new.safetensors")
    assert run("name", file, "--rename", "random-0=wobble", "--out", out, "--json").exit_code == 0
    made = run(
        "combine",
        out,
        "--name",
        "mix",
        "--sum",
        "wobble*-1,random-1*0.5",
        "--without",
        "random-1",
        "--out",
        out,
        "--json",
    )
    assert [json.loads(line)["name"] for line in made.stdout.splitlines()] == ["wobble", "random-1", "mix"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["find", "supervised", "--domain", "shapes", "--form", "magic"], "Invalid value for '--form'"),
        (["apply", "FILE"], "which images"),
        (["apply", "FILE", "--image", "shapes:3", "--strengths", "x"], "give numbers"),
        (["apply", "FILE", "--image", "shapes:3", "--windows", "0.5:0.2"], "give BEGIN:END"),
        (["name", "FILE", "--rename", "nothing"], "write OLD=NEW"),
    ],
)
def test_usage(file, args, said):
    result = run(*[file if arg == "FILE" else arg for arg in args])
    assert result.exit_code == 2 and said in result.output


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["apply", "FILE", "--image", "shapes:3", "--steps", "5"], "or --resample"),
        (["apply", "FILE", "--image", "shapes:3", "--model", "domain:shapes/kandinsky22"], "another U-Net"),
        (["apply", "FILE", "--image", "shapes:3", "--pick", "nobody"], "unknown direction 'nobody'"),
        (["name", "FILE", "--rename", "nobody=x"], "unknown direction 'nobody'"),
        (["find", "jacobian", "--domain", "shapes"], "name it with --image"),
        (["show", "nothing.safetensors"], "does not exist"),
    ],
)
def test_what_is_wrong_is_one_line(file, args, said):
    result = run(*[file if arg == "FILE" else arg for arg in args])
    assert said in str(result.exception) and "\n" not in str(result.exception)
