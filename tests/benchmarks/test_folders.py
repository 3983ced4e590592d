"""Pictures in folders as data of a benchmark."""

import numpy as np
import pytest
from PIL import Image

from counterlens.benchmarks.data import open_data
from counterlens.core import registry as registries
from counterlens.core.errors import UsageError


@pytest.fixture(scope="module")
def registry():
    return registries.load(third_party=False)


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


def test_a_missing_validation_split_is_cut_from_train(registry, tmp_path):
    for label in ("cat", "dog"):
        draw(tmp_path / "train" / label, 40)
        draw(tmp_path / "test" / label, 2, 100)
    data = open_data(f"folder:{tmp_path}", registry)
    assert data.length("test") == 4 and data.length("validation") > 0
    assert not names(data, "train") & names(data, "validation")
    assert data.length("train") + data.length("validation") == 80


@pytest.mark.parametrize("query", ["?classes=cat,bird", "/nothing", "?labels=a"])
def test_what_is_wrong_is_said(registry, tmp_path, query):
    draw(tmp_path / "cat", 2)
    draw(tmp_path / "dog", 2)
    with pytest.raises(UsageError):
        open_data(f"folder:{tmp_path}{query}", registry)


def test_one_class_is_not_enough(registry, tmp_path):
    draw(tmp_path / "cat", 2)
    with pytest.raises(UsageError, match="at least two classes"):
        open_data(f"folder:{tmp_path}", registry)


def test_a_data_set_of_a_plugin_is_split_by_its_groups(tmp_path):
    from counterlens.benchmarks.folders import Listed
    from counterlens.core.datasets import Dataset, Example

    pixels = np.zeros((8, 8, 3), np.uint8)
    examples = tuple(Example(f"{k}", "ab"[k % 2], f"patient {k // 4}", lambda: pixels) for k in range(200))
    data = Listed(Dataset("x:y", ("a", "b"), lambda: examples, lambda: ""))
    groups = [{example.group for example in data.parts[split]} for split in ("train", "validation", "test")]
    assert sum(data.length(split) for split in ("train", "validation", "test")) == 200
    assert all(groups) and not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert data.sample(0, "test").label in ("a", "b") and data.target_for("b") == "a"
