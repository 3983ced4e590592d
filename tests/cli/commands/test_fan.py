"""The fan of strengths and the preview of a map, on the embedded shapes."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def test_a_fan_has_a_row_a_strength_and_a_sheet(cli, tmp_path):
    done = cli("fan", "shapes:0", "--strengths", "0,0.5,1", "--steps", "8", "--json", "--out", tmp_path / "f.png")
    assert done.code == 0, done.err
    rows = done.rows
    assert [row["strength"] for row in rows] == [0, 0.5, 1]
    assert set(rows[0]) == {"strength", "l1", "l1_strip", "p_target", "lpips", "flipped"}
    assert rows[0]["l1"] == 0 == rows[0]["l1_strip"] and 0 < rows[1]["l1"] < rows[2]["l1"]
    assert rows[2]["p_target"] > rows[0]["p_target"]
    assert np.asarray(Image.open(tmp_path / "f.png")).std() > 10


def test_one_region_is_varied_and_the_rest_stays(cli, tmp_path):
    left, right = np.zeros((2, 32, 32), np.uint8)
    left[:, :16], right[:, 16:] = 255, 255
    for name, values in (("left", left), ("right", right)):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    vary = f"file path={tmp_path / 'right.png'}"
    base = ("fan", "shapes:0", "--strengths", "0,1", "--steps", "6", "--json", "--out", tmp_path / "f.png")
    done = cli(*base, "--map", tmp_path / "left.png", "--vary", vary)
    assert done.code == 0, done.err
    none, all_of_it = done.rows
    assert 0 < none["l1"] < all_of_it["l1"], "the left half changes at either strength of the right"


def test_a_preview_runs_nothing(cli, tmp_path):
    done = cli("fan", "shapes:1", "--preview", "--json", "--out", tmp_path / "p.png")
    assert done.code == 0, done.err
    assert done.rows == [{"preview": str(tmp_path / "p.png")}] and (tmp_path / "p.png").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--strengths", "0,two"), "give numbers from 0 to 1"),
        (("--strengths", "1.5"), "give numbers from 0 to 1"),
        (("--method", "reconstruct"), "has no change map"),
        (("--vary", "file path=none.png"), "no such file"),
        (("--vary", "or"), "MASKER"),
        (("--target", "bouba"), "already decided"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(cli, tmp_path, options, words):
    done = cli("fan", "shapes:0", *options, "--out", tmp_path / "f.png")
    assert done.code == 2 and words in done.err, done.err
    assert done.err.count("error") == 1 and not (tmp_path / "f.png").exists()


def test_the_commands_of_the_how_to_page_plan(cli, tmp_path):
    page = Path(__file__).parents[3] / "docs" / "how-to" / "change-maps.md"
    commands = [shlex.split(line) for line in page.read_text().splitlines() if line.startswith("counterlens explain")]
    Image.fromarray(np.full((32, 32), 200, np.uint8)).save("map.png")
    assert len(commands) >= 7
    for _, *words in commands:
        done = cli(*words, "--dry-run")
        assert done.code == 0, (words, done.err)


def test_a_map_that_looks_upside_down_is_said_on_stderr(cli, tmp_path):
    Image.fromarray(np.full((32, 32), 255, np.uint8)).save("white.png")
    done = cli("explain", "shapes:0", "--method", "differential", "--map", "white.png", "--steps", "6", "--json")
    assert "may change 100 % of the picture: is its polarity right?" in done.err
    assert any("polarity" in note for note in done.rows[0]["notes"])
    black = np.zeros((32, 32), np.uint8)
    Image.fromarray(black).save("black.png")
    done = cli("explain", "shapes:0", "--method", "differential", "--map", "black.png")
    assert done.code == 2 and "locks every pixel" in done.err
