"""Tables, archives of arrays, and data sets of Hugging Face's library as labelled images."""

import sys
import types

import numpy as np
import pytest
from PIL import Image

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.plugin.registry import load_registry

REGISTRY = load_registry(third_party=False)
PIXELS = np.random.default_rng(0).integers(0, 255, (12, 16, 16), np.uint8)


def opened(uri):
    return REGISTRY.open_dataset(uri)


@pytest.fixture
def table(tmp_path):
    (tmp_path / "bilder äöü").mkdir()
    lines = ["filename;diagnosis;patient;split"]
    for k in range(12):
        Image.fromarray(PIXELS[k]).save(tmp_path / "bilder äöü" / f"{k} a.png")
        lines.append(f"bilder äöü/{k} a.png;{'ill' if k % 2 else 'well'};p{k // 4};{'test' if k > 7 else 'train'}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "list.csv"


def test_a_table_knows_the_usual_names_of_columns(table):
    data = opened(f"csv:{table}")
    assert data.counts() == {"ill": 4, "well": 4} and {e.group for e in data.examples} == {"p0", "p1"}
    assert (data.examples[1].read()[..., 0] == PIXELS[1]).all()
    assert len(opened(f"csv:{table}?split=test")) == 4 and len(opened(f"csv:{table}?split=all")) == 12
    by_name = opened(f"csv:{table}?group=(\\d+) a&split=all")
    assert by_name.examples[3].group == "3"
    assert opened(f"csv:{table}?label=patient&split=all").labels == ("p0", "p1", "p2")


@pytest.mark.parametrize(
    ("query", "words"), [("?label=diagnose", "did you mean 'diagnosis'"), ("?lable=x", "did you mean 'label'")]
)
def test_columns_that_are_not_there(table, query, words):
    with pytest.raises(UsageError, match=words):
        opened(f"csv:{table}{query}")
    other = table.with_name("other.csv")
    other.write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match=r"no column 'image', only a, b; say which it is"):
        opened(f"csv:{other}")
    with pytest.raises(UsageError, match="no such file"):
        opened("csv:nothing.csv")


def test_files_of_a_table_that_are_missing_are_named(table):
    (table.parent / "bilder äöü" / "0 a.png").unlink()
    notes = []
    assert len(list(opened(f"csv:{table}").pictures(notice=notes.append))) == 7
    assert "0 a.png" in notes[0] and "1 of 8" in notes[1]


def test_a_table_with_a_file_in_two_parts_is_refused_and_names_it(table):
    folder = table.parent / "bilder äöü"
    (folder / "copy.png").write_bytes((folder / "3 a.png").read_bytes())
    table.write_text(f"{table.read_text(encoding='utf-8')}bilder äöü/copy.png;ill;p9;test\n", encoding="utf-8")
    for split in ("", "?split=test", "?split=train"):
        with pytest.raises(UsageError, match=r"3 a.png \(train\) = bilder äöü/copy.png \(test\): leave each in one"):
            opened(f"csv:{table}{split}")
    assert len(opened(f"csv:{table}?split=all")) == 13  # to look into it: data check


def test_an_archive_with_an_image_of_the_test_part_in_another_is_refused(tmp_path):
    labels = np.arange(12) % 2
    arrays = {"train_images": PIXELS, "train_labels": labels, "val_labels": labels[:4], "test_labels": labels[:4]}
    twice = archive(tmp_path / "a.npz", **arrays, val_images=PIXELS[:4] // 2, test_images=PIXELS[8:])
    with pytest.raises(UsageError, match=r"4 images are in more than one part: train000008 \(train\) = test000000"):
        opened(f"{twice}?split=test")
    # train and validation share images in published archives: they count as train
    validation = np.concatenate([PIXELS[2:4], PIXELS[4:6] // 2])
    mixed = archive(tmp_path / "b.npz", **arrays, val_images=validation, test_images=PIXELS[8:] // 2)
    assert [len(opened(f"{mixed}?split={part}")) for part in ("train", "validation", "test")] == [12, 2, 4]


def archive(path, **arrays):
    np.savez(path, **arrays)
    return f"npz:{path}"


def test_arrays_with_parts_and_names_of_labels(tmp_path):
    labels = (np.arange(12) % 2)[:, None]
    uri = archive(tmp_path / "a.npz", train_images=PIXELS, train_labels=labels, test_images=PIXELS[:4] // 2,
                  test_labels=labels[:4])  # fmt: skip
    data = opened(f"{uri}?labels=well,ill")
    assert data.labels == ("well", "ill") and data.counts() == {"well": 6, "ill": 6}
    assert (data.examples[2].read()[..., 1] == PIXELS[2]).all()
    assert len(opened(f"{uri}?split=test")) == 4 and opened(uri).labels == ("0", "1")
    assert opened(uri).content() != opened(f"{uri}?split=test").content()


def test_sixteen_bits_and_floats_are_scaled_by_their_range(tmp_path):
    labels, deep = np.arange(12) % 2, PIXELS.astype(np.uint16) * 257
    for name, images in (("deep", deep), ("floats", PIXELS / 255)):
        data = opened(archive(tmp_path / f"{name}.npz", images=images, labels=labels, groups=labels))
        assert (data.examples[5].read()[..., 0] == PIXELS[5]).all() and data.examples[5].group == "1"


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": PIXELS}, "no array of images, only x"),
        ({"images": PIXELS, "labels": np.arange(3)}, "one label for each of 12 images"),
        ({"images": PIXELS[0], "labels": np.arange(16) % 2}, r"images of the shape \[16, 16\]"),
        ({"images": PIXELS, "labels": np.arange(12) % 3}, "label 2 has no name"),
    ],
)
def test_arrays_that_are_none(tmp_path, arrays, words):
    with pytest.raises(UsageError, match=words):
        opened(archive(tmp_path / "a.npz", **arrays) + "?labels=a,b")


def test_ranges_that_are_unknown_and_files_that_are_no_archive(tmp_path):
    uri = archive(tmp_path / "a.npz", images=PIXELS * 1.0, labels=np.arange(12) % 2)
    with pytest.raises(UsageError, match=r"read as \[0,1\]"):
        opened(uri).examples[0].read()
    (tmp_path / "b.npz").write_bytes(b"PK nothing")
    with pytest.raises(UsageError, match="not an archive of plain arrays"):
        opened(f"npz:{tmp_path}/b.npz")


class Table:
    """What a data set of the library ``datasets`` looks like from outside."""

    column_names = ("image", "label", "patient")
    _fingerprint = "f"
    features: dict = {"label": types.SimpleNamespace(names=["cat", "dog"])}

    def __getitem__(self, key):
        if isinstance(key, int):
            return {"image": Image.fromarray(PIXELS[key])}
        return {"label": [0, 1] * 6, "patient": [k // 4 for k in range(12)]}[key]


def test_hugging_face(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_from_disk=lambda path: {"train": Table()}))
    data = opened(f"hf:{tmp_path}?group=patient")
    assert data.labels == ("cat", "dog") and data.examples[5].group == "1" and len(data) == 12
    assert (data.examples[5].read()[..., 2] == PIXELS[5]).all()
    with pytest.raises(UsageError, match="column"):
        opened(f"hf:{tmp_path}?image=picture")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingError, match="pip install datasets"):
        opened("hf:somebody/something")
