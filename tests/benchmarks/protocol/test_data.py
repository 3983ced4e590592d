"""Labelled images as data of a benchmark: opened as ``explain`` and ``train`` open them."""

import numpy as np
import pytest
from PIL import Image

from counterlens.benchmarks.protocol.data import check_split, open_data
from counterlens.core.errors import UsageError
from counterlens.core.plugin import registry as registries


@pytest.fixture(scope="module")
def registry():
    return registries.load_registry(third_party=False)


def draw(folder, count, start=0):
    folder.mkdir(parents=True)
    for k in range(start, start + count):
        Image.fromarray(np.full((8, 8, 3), k, np.uint8)).save(folder / f"{k}.png")


def names(data, split):
    samples = [data.sample(k, split) for k in range(data.length(split))]
    return {(one.label, int(one.pixels[0, 0, 0])) for one in samples}


def test_folders_of_splits(registry, tmp_path):
    for k, split in enumerate(("train", "val", "test")):
        for label in ("cat", "dog"):
            draw(tmp_path / split / label, 3, 10 * k)
    data = open_data(f"folder:{tmp_path}", registry)
    assert data.labels == ("cat", "dog")
    assert names(data, "validation") == {(label, k) for label in ("cat", "dog") for k in (10, 11, 12)}
    assert data.target_for("dog") == "cat"
    with pytest.raises(UsageError, match=r"6 test images \(0 to 5\), not 6"):
        data.sample(6, "test")


def test_a_plain_folder_is_split_by_names_and_adding_a_picture_moves_none(registry, tmp_path):
    draw(tmp_path / "cat", 60)
    draw(tmp_path / "dog", 60)
    before = {
        split: names(open_data(f"folder:{tmp_path}", registry), split) for split in ("train", "validation", "test")
    }
    assert sum(map(len, before.values())) == 120 and all(before.values())
    assert len(before["train"]) > 60
    Image.new("RGB", (8, 8)).save(tmp_path / "cat" / "another.png")
    data = open_data(f"folder:{tmp_path}", registry)
    for split, found in before.items():
        assert found <= names(data, split)


def test_a_part_that_is_not_declared_is_not_cut_from_train(registry, tmp_path):
    for label in ("cat", "dog"):
        draw(tmp_path / "train" / label, 40)
        draw(tmp_path / "test" / label, 2, 100)
    data = open_data(f"folder:{tmp_path}", registry)
    assert data.length("test") == 4 and data.length("train") == 80
    with pytest.raises(UsageError, match="there is no split 'validation'; it has test, train"):
        data.length("validation")


def test_the_first_images_are_of_all_classes(registry, tmp_path):
    draw(tmp_path / "cat", 60)
    draw(tmp_path / "dog", 60)
    data = open_data(f"folder:{tmp_path}", registry)
    assert {data.sample(k, "train").label for k in range(12)} == {"cat", "dog"}


@pytest.mark.parametrize("query", ["?classes=cat,bird", "/nothing", "?labels=a"])
def test_what_is_wrong_is_said(registry, tmp_path, query):
    draw(tmp_path / "cat", 2)
    draw(tmp_path / "dog", 2)
    with pytest.raises(UsageError):
        open_data(f"folder:{tmp_path}{query}", registry)


def test_one_class_is_not_enough(registry, tmp_path):
    draw(tmp_path / "cat", 2)
    with pytest.raises(UsageError, match="two class folders with images are needed"):
        open_data(f"folder:{tmp_path}", registry)


def test_a_part_that_is_none_is_refused(registry):
    with pytest.raises(UsageError, match="did you mean 'test'"):
        check_split(open_data("domain:shapes", registry), "tset")
    with pytest.raises(UsageError, match="protocol's split"):
        open_data("folder:x?split=test", registry)
