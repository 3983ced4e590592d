"""Labelled images by URI: a folder of class folders and a domain."""

import numpy as np
import pytest
from PIL import Image

from counterlens.core.datasets import open_dataset
from counterlens.core.errors import UsageError
from counterlens.core.registry import load

REGISTRY = load(third_party=False)


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_a_folder_of_class_folders(tmp_path):
    wanted = picture(tmp_path / "cat" / "b.png", 1)
    picture(tmp_path / "cat" / "a.JPEG", 2)
    picture(tmp_path / "wild dög" / "a.png", 3)
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").mkdir()
    found = open_dataset(REGISTRY, str(tmp_path))
    assert found.labels == ("cat", "wild dög") and found.counts() == {"cat": 2, "wild dög": 1}
    assert [e.id for e in found.examples] == ["cat/a.JPEG", "cat/b.png", "wild dög/a.png"]
    assert (found.examples[1].read() == wanted).all()
    assert [e.id for e in found.only(["cat"], 1).examples] == ["cat/a.JPEG"]


def test_the_digest_is_of_the_content(tmp_path):
    for name in "ab":
        picture(tmp_path / name / "1.png", ord(name))
    first = open_dataset(REGISTRY, f"folder:{tmp_path}").content()
    assert open_dataset(REGISTRY, str(tmp_path)).content() == first
    picture(tmp_path / "a" / "1.png", 9)
    assert open_dataset(REGISTRY, str(tmp_path)).content() != first


def test_a_folder_divided_into_splits(tmp_path):
    for split in ("train", "test"):
        for name in "ab":
            picture(tmp_path / split / name / f"{split}.png")
    assert [e.id for e in open_dataset(REGISTRY, str(tmp_path)).examples] == ["a/train.png", "b/train.png"]
    assert [e.id for e in open_dataset(REGISTRY, f"folder:{tmp_path}?split=test").examples] == [
        "a/test.png",
        "b/test.png",
    ]
    with pytest.raises(UsageError, match="it has test, train"):
        open_dataset(REGISTRY, f"folder:{tmp_path}?split=validation")


def test_groups_by_pattern(tmp_path):
    for name in ("CNV-12-1.png", "CNV-12-2.png", "CNV-3-1.png"):
        picture(tmp_path / "cnv" / name)
    picture(tmp_path / "other" / "x.png")
    found = open_dataset(REGISTRY, f"folder:{tmp_path}?group=CNV-(\\d+)")
    assert [e.group for e in found.examples] == ["12", "12", "3", "x.png"]
    with pytest.raises(UsageError, match="not a regular expression"):
        open_dataset(REGISTRY, f"folder:{tmp_path}?group=(")


def test_corrupt_images_are_named_and_counted_or_stop(tmp_path):
    for k in range(3):
        picture(tmp_path / "a" / f"{k}.png", k)
        picture(tmp_path / "b" / f"{k}.png", 9 + k)
    (tmp_path / "a" / "1.png").write_bytes((tmp_path / "a" / "1.png").read_bytes()[:60])
    found, notes = open_dataset(REGISTRY, str(tmp_path)), []
    assert len(list(found.pictures(notice=notes.append))) == 5
    assert "a/1.png" in notes[0] and "1 of 6 images" in notes[1]
    with pytest.raises(UsageError, match=r"1\.png"):
        list(found.pictures(strict=True))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: root / "none", "no such folder"),
        (lambda root: root, "none found"),
        (lambda root: (picture(root / "one" / "a.png"), root)[1], "only 'one' found"),
    ],
)
def test_folders_without_two_classes(tmp_path, make, words):
    with pytest.raises(UsageError, match=words):
        open_dataset(REGISTRY, str(make(tmp_path)))


def test_an_unknown_scheme():
    with pytest.raises(UsageError, match="no data set of the scheme 'ftp'"):
        open_dataset(REGISTRY, "ftp:x")


def test_a_domain_is_a_data_set():
    found = open_dataset(REGISTRY, "domain:digits?split=validation&first=12")
    assert len(found) == 12 and found.labels[4] == "four"
    domain = REGISTRY.domain("digits")
    for k, example in enumerate(found.examples):
        assert example.label == domain.sample(k, "validation").label
        assert (example.read() == domain.sample(k, "validation").pixels).all()
    other = open_dataset(REGISTRY, "domain:digits?split=test&first=12")
    assert found.content() != other.content()
    with pytest.raises(UsageError, match="splits train, validation and test"):
        open_dataset(REGISTRY, "domain:digits?split=val")
