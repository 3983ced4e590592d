"""Animations, strips and tables of what was tried, through the real engine."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from counterlens.core.engine.request import Request
from counterlens.core.plugin.registry import load_registry
from counterlens.core.problem.items import Counterfactual, Item, Try
from counterlens.core.runs.pictures import SHOW_MS, before_and_after, shown, strips
from counterlens.core.runs.records import items_csv, tries_csv

REGISTRY = load_registry(third_party=False)
LABELS = ("bouba", "kiki")


def done(side=32):
    pixels = np.full((side, side, 3), 40, np.uint8)
    shots = [
        Try(skip, s, 0.1 * s, np.full_like(pixels, round(20 + 30 * s + 100 * skip)))
        for skip in (0.7, 0.3)
        for s in (0, 1, 2)
    ]
    image = torch.from_numpy(shots[4].pixels).permute(2, 0, 1).float() / 127.5 - 1
    item = Item("shapes:0", pixels, "0" * 64, "kiki")
    before, after = torch.tensor([0.9, 0.1]), torch.tensor([0.2, 0.8])
    return Counterfactual(item, image, before, after, 0, 1, shots=tuple(shots))


def test_small_pictures_are_enlarged_pixel_by_pixel():
    before, after = before_and_after(done(), LABELS)
    assert before.size == after.size and before.width == 256
    assert np.asarray(before)[:256].max() == 40 and len(set(np.asarray(after)[:256].ravel())) == 1
    assert np.asarray(before)[256:].min() < 100  # there are words below
    assert before_and_after(done(2000), LABELS)[0].width == 512


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_animations_have_two_frames_and_go_on_for_ever(tmp_path, kind):
    files = shown([kind], done(), LABELS)
    path = tmp_path / f"flip.{kind}"
    path.write_bytes(files[path.name])
    with Image.open(path) as image:
        assert image.n_frames == 2 and image.info["loop"] == 0
        image.seek(1)
        image.load()
        assert image.info["duration"] == SHOW_MS


def test_strips_show_the_tries_around_the_chosen_one():
    made = strips(done(), LABELS)
    assert made["strip-strength"].width == 4 * 256 + 3 * 8  # the source and three strengths
    assert made["strip-start"].width == 3 * 256 + 2 * 8  # the source and two starts
    middle = np.asarray(made["strip-strength"])[128, 264 + 128 :: 264]
    assert middle[:, 0].tolist() == [50, 80, 110]  # at the chosen start, by strength


def test_tables():
    record = {"digest": "d", "image": "a, b", "target": "kiki", "l1": 0.5, "flipped": True, "notes": ["x"],
              "tried": [{"skip": 0.7, "strength": 1, "p_target": None}]}  # fmt: skip
    (row,) = csv.DictReader(items_csv([record]).splitlines())
    assert row == {"digest": "d", "image": "a, b", "target": "kiki", "l1": "0.5", "flipped": "True"}
    (row,) = csv.DictReader(tries_csv([record, {**record, "tried": []}]).splitlines())
    assert row["skip"] == "0.7" and row["p_target"] == "" and row["number"] == "0"


def test_the_engine_writes_what_was_asked_for(tmp_path, monkeypatch):
    from counterlens.core.engine.session import explain

    monkeypatch.setenv("COUNTERLENS_CACHE", str(tmp_path / "cache"))
    request = Request(
        images=("digits:0",), method="guided", model="domain:digits/ddpm", steps=4, tau=0.999, device="cpu",
        search="sweep strengths=0,0.01 skips=0.5,0.25 stop=false", save=("tries", "strips", "gif", "webp", "csv"),
    )  # fmt: skip
    (record,) = explain(request, REGISTRY, out=tmp_path)
    run = next(tmp_path.glob("*-guided-*"))
    item = run / "items" / record["digest"]
    names = {path.name for path in item.iterdir()}
    assert {"try-00.png", "try-03.png", "strip-strength.png", "strip-start.png", "flip.gif", "flip.webp"} <= names
    assert {"flip.gif", "try-00.png"} <= json.loads((item / "item.json").read_text())["pictures"].keys()
    assert len((run / "tries.csv").read_text().splitlines()) == 5 and (run / "items.csv").is_file()
    reconstruction, source = (np.asarray(Image.open(item / name)).astype(int) for name in ("try-00.png", "source.png"))
    assert np.abs(reconstruction - source).max() <= 1  # strength 0
