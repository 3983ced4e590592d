"""Labelled images by URI: a folder of class folders and a domain."""

import re
from functools import partial

import numpy as np
import pytest
from PIL import Image

from counterlens.core.data.dataset import Dataset, Example, refined
from counterlens.core.errors import UsageError
from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.core.plugin.registry import load_registry
from counterlens.core.utils.uri import parse_uri

REGISTRY = load_registry(third_party=False)


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
    found = REGISTRY.open_dataset(str(tmp_path))
    assert found.labels == ("cat", "wild dög") and found.counts() == {"cat": 2, "wild dög": 1}
    assert [e.id for e in found.examples] == ["cat/a.JPEG", "cat/b.png", "wild dög/a.png"]
    assert (found.examples[1].read() == wanted).all()
    assert [e.id for e in found.only(["cat"], 1).examples] == ["cat/a.JPEG"]


def test_the_digest_is_of_the_content(tmp_path):
    for name in "ab":
        picture(tmp_path / name / "1.png", ord(name))
    first = REGISTRY.open_dataset(f"folder:{tmp_path}").content()
    assert REGISTRY.open_dataset(str(tmp_path)).content() == first
    picture(tmp_path / "a" / "1.png", 9)
    assert REGISTRY.open_dataset(str(tmp_path)).content() != first


def test_a_folder_divided_into_splits(tmp_path):
    for split in ("train", "test"):
        for name in "ab":
            picture(tmp_path / split / name / f"{split}.png")
    assert [e.id for e in REGISTRY.open_dataset(str(tmp_path)).examples] == ["a/train.png", "b/train.png"]
    assert [e.id for e in REGISTRY.open_dataset(f"folder:{tmp_path}?split=test").examples] == [
        "a/test.png",
        "b/test.png",
    ]
    with pytest.raises(UsageError, match="it has test, train"):
        REGISTRY.open_dataset(f"folder:{tmp_path}?split=validation")


def test_groups_by_pattern(tmp_path):
    for name in ("CNV-12-1.png", "CNV-12-2.png", "CNV-3-1.png"):
        picture(tmp_path / "cnv" / name)
    picture(tmp_path / "other" / "x.png")
    found = REGISTRY.open_dataset(f"folder:{tmp_path}?group=CNV-(\\d+)")
    assert [e.group for e in found.examples] == ["12", "12", "3", "x.png"]
    with pytest.raises(UsageError, match="not a regular expression"):
        REGISTRY.open_dataset(f"folder:{tmp_path}?group=(")


def test_corrupt_images_are_named_and_counted_or_stop(tmp_path):
    for k in range(3):
        picture(tmp_path / "a" / f"{k}.png", k)
        picture(tmp_path / "b" / f"{k}.png", 9 + k)
    (tmp_path / "a" / "1.png").write_bytes((tmp_path / "a" / "1.png").read_bytes()[:60])
    found, notes = REGISTRY.open_dataset(str(tmp_path)), []
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
        REGISTRY.open_dataset(str(make(tmp_path)))


def test_an_unknown_scheme():
    with pytest.raises(UsageError, match=r"unknown data scheme 'ftp': .*csv, domain, folder, hf, npz"):
        REGISTRY.open_dataset("ftp:x")


class Stranger:
    """A plugin's data that knows nothing of parts: ``beside:x``, four images of each patient."""

    @hookimpl
    def counterlens_schemes(self):
        return {"data": {"beside": "images of a test"}}

    @hookimpl
    def counterlens_open_dataset(self, uri):
        if not uri.startswith("beside:"):
            return None
        pixels = [np.full((8, 8, 3), k, np.uint8) for k in range(200)]
        listed = [Example(str(k), "ab"[k % 2], f"patient {k // 4}", partial(pixels.__getitem__, k)) for k in range(200)]
        return Dataset(uri, ("a", "b"), lambda: tuple(listed), lambda: "content")


def test_data_of_a_plugin_is_divided_by_groups_and_its_scheme_is_known():
    registry = load_registry(third_party=False, extra={"stranger": Stranger()})
    parts = {name: registry.open_dataset(f"beside:x?split={name}") for name in ("train", "validation", "test")}
    groups = [{example.group for example in part.examples} for part in parts.values()]
    assert sum(map(len, parts.values())) == len(registry.open_dataset("beside:x")) == 200
    assert all(groups) and not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert len({part.content() for part in parts.values()}) == 3
    with pytest.raises(UsageError, match="did you mean 'test'"):
        registry.open_dataset("beside:x?split=tset")
    with pytest.raises(UsageError, match=r"did you mean 'beside'.*csv, domain, folder, hf, npz"):
        registry.open_dataset("besides:x")


def many(root, count=60):
    for name in ("cat", "dog"):
        for k in range(count):
            picture(root / name / f"{name}-{k // 2}-{k % 2}.png", 2 * k + (name == "cat"))
    return root


def test_pictures_are_cut_and_trimmed_as_the_uri_says(tmp_path):
    wide = np.full((40, 60, 3), 50, np.uint8)
    wide[:, :8] = 255
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(wide).save(tmp_path / name / "1.png")
    plain, cut = (REGISTRY.open_dataset(f"folder:{tmp_path}{how}") for how in ("", "?crop=square&trim=true"))
    assert plain.examples[0].read().shape == (40, 60, 3) and cut.examples[0].read().shape == (40, 40, 3)
    padded = REGISTRY.open_dataset(f"folder:{tmp_path}?crop=pad&trim=true").examples[0].read()
    assert padded.shape == (60, 60, 3) and not padded[:, :8].any() and padded[30, 30, 0] == 50
    assert plain.content() != cut.content()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("crop=round", "crop 'round'"),
        ("trim=perhaps", "true or false"),
        ("split=tset", "did you mean 'test'"),
        ("classes=cat,bird", "'bird'"),
        ("classes=cat", "only 'cat' found"),
        ("first=some", "not a number of images"),
        ("group=x(\\d+)", "matches no name, such as 'cat-0-0.png'"),
        ("labels=a", "unknown option 'labels'"),
    ],
)
def test_options_that_make_no_sense(tmp_path, query, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        REGISTRY.open_dataset(f"folder:{many(tmp_path, 2)}?{query}").content()


def test_what_is_no_folder_is_named(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"PK")
    with pytest.raises(UsageError, match="an archive; unpack it first"):
        REGISTRY.open_dataset(f"folder:{tmp_path}/data.zip")


def test_options_are_put_into_a_uri():
    assert refined("folder:x", split="test", group=r"-(\d+)-", crop=None) == r"folder:x?split=test&group=-(\d+)-"
    assert refined("folder:x?split=train", split="test") == "folder:x?split=train"
    assert parse_uri(refined("x", classes="a&b,c")).names("classes") == ("a&b", "c")
    assert refined("domain:digits", split="train", crop="square") == "domain:digits"


def test_links_that_lead_round_and_files_that_are_no_images(tmp_path):
    picture(tmp_path / "a" / "1.png")
    picture(tmp_path / "b" / "1 é.png", 1)
    (tmp_path / "a" / "round.png").symlink_to(tmp_path / "a" / "round.png")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "c").symlink_to(tmp_path)
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    found, notes = REGISTRY.open_dataset(str(tmp_path)), []
    assert found.labels == ("a", "b") and found.passed == (str(tmp_path / "a" / "notes.txt"),)
    assert len(list(found.pictures(notice=notes.append))) == 2 and "round.png" in notes[0]
    assert found.content() == REGISTRY.open_dataset(str(tmp_path)).content()
