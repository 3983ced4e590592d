"""The same parts in every command: no image of one part, by its hash, is in another part anywhere."""

import sys
import types
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from counterlens.benchmarks.protocol.data import digest_of, open_data
from counterlens.benchmarks.protocol.plan import plan
from counterlens.cli.commands.bench import suite_of
from counterlens.core.data import training_images
from counterlens.core.data.dataset import PARTS, Dataset, Example, refined
from counterlens.core.engine.request import Request, gather
from counterlens.core.engine.session import Session, explain
from counterlens.core.errors import UsageError
from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.core.plugin.registry import load_registry
from counterlens.core.testing.tiny import tiny
from counterlens.core.training.trainer import Trainer
from counterlens.core.workflows.train import Networks, train

COUNT = 120
PIXELS = np.random.default_rng(0).integers(0, 255, (COUNT, 12, 16, 3), np.uint8)
LABELS = np.arange(COUNT) % 2
DECLARED = ["train"] * 60 + ["val"] * 24 + ["test"] * 36
OPTIONS = {"split": None, "group_by": None, "classes": None, "crop": None, "trim_border": False, "first": None}


def save(path, k):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS[k]).save(path)
    return path


def plain_folder(root, _):
    for k in range(COUNT):
        save(root / "ab"[LABELS[k]] / f"p{k // 4}-{k}.png", k)
    return f"folder:{root}?group=p(\\d+)-"


def divided_folder(root, _):
    for k in range(COUNT):
        save(root / DECLARED[k] / "ab"[LABELS[k]] / f"{k}.png", k)
    return f"folder:{root}"


def table(root, divided):
    lines = ["image,label,patient" + (",split" if divided else "")]
    for k in range(COUNT):
        save(root / f"{k}.png", k)
        lines.append(f"{k}.png,{'ab'[LABELS[k]]},p{k // 4}" + (f",{DECLARED[k]}" if divided else ""))
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return f"csv:{root}/list.csv"


def archive(root, divided):
    arrays = {"images": PIXELS, "labels": LABELS, "groups": [f"p{k // 4}" for k in range(COUNT)]}
    if divided:
        rows = {part: [k for k in range(COUNT) if DECLARED[k] == part] for part in ("train", "val", "test")}
        arrays = {f"{part}_images": PIXELS[own] for part, own in rows.items()}
        arrays |= {f"{part}_labels": LABELS[own] for part, own in rows.items()}
    np.savez(root / "a.npz", **arrays)
    return f"npz:{root}/a.npz"


class Table:
    """What a data set of the library ``datasets`` looks like from outside."""

    column_names = ("image", "label", "patient")
    features: dict = {"label": types.SimpleNamespace(names=["a", "b"])}

    def __init__(self, rows):
        self.rows, self._fingerprint = rows, str(rows[0])

    def __getitem__(self, key):
        if isinstance(key, int):
            return {"image": Image.fromarray(PIXELS[self.rows[key]])}
        return {"label": [int(LABELS[k]) for k in self.rows], "patient": [k // 4 for k in self.rows]}[key]


def hugging_face(root, divided):
    rows = {part: [k for k in range(COUNT) if DECLARED[k] == part] for part in ("train", "val", "test")}
    parts = {part: Table(own) for part, own in rows.items()} if divided else Table(list(range(COUNT)))
    sys.modules["datasets"].load_from_disk = lambda path: parts
    return f"hf:{root}?group=patient"


SOURCES = {
    "a plain folder": (plain_folder, False),
    "a folder of parts": (divided_folder, True),
    "csv": (table, False),
    "csv with a split column": (table, True),
    "npz": (archive, False),
    "npz with parts": (archive, True),
    "hf": (hugging_face, False),
    "hf with parts": (hugging_face, True),
    "domain": (lambda root, _: "domain:shapes", True),
}


class Reader(Trainer):
    """Reads every image and writes a file."""

    name = "reader"

    def train(self, job):
        count = sum(1 for _ in job.dataset.pictures(strict=True))
        job.out.write_text("weights")
        return {"images": count}


def trained(registry, uri, out):
    """The hashes that ``train`` writes beside what it makes."""
    part = "domain:shapes?first=300" if uri == "domain:shapes" else refined(uri, split="train")
    record = train(registry, Reader(), part, str(out), Networks(device="cpu"))
    found = training_images.read_record(training_images.beside(out))
    assert record["images"] == len(found) > 0
    return found


def explained(registry, uri, part):
    """The hashes of what ``explain URI --split PART`` is about."""
    if uri == "domain:shapes":
        return {one.digest for k in range(20) for one in gather(Request(images=(f"shapes:{k}",)), registry)}
    return {one.digest for one in gather(Request(images=(refined(uri, split=part),)), registry)}


def benchmarked(registry, uri, part):
    """The hashes of what ``bench`` (or the search of ``tune``) is about."""
    suite = suite_of({**OPTIONS, "suite": None, "data": uri, "metrics": (), "split": part})
    data = open_data(suite.protocol.data, registry)
    count = min(data.length(suite.protocol.split), 50 if uri == "domain:shapes" else COUNT)
    return {digest_of(data, k, suite.protocol.split) for k in range(count)}


@pytest.mark.parametrize("name", SOURCES)
def test_parts_are_disjoint_by_hash_across_commands(registry, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace())
    make, divided = SOURCES[name]
    (tmp_path / "data").mkdir()
    uri = make(tmp_path / "data", divided)
    train_ = trained(registry, uri, tmp_path / "weights")
    selection, test = (benchmarked(registry, uri, part) for part in ("validation", "test"))
    default = benchmarked(registry, uri, None)
    shown = explained(registry, uri, "test")
    assert all((train_, selection, test, shown)) and default == test
    assert not train_ & test and not train_ & selection and not selection & test
    assert not shown & train_ and not shown & selection
    if uri == "domain:shapes":
        assert shown < test
        return
    assert shown == test and explained(registry, uri, "validation") == selection
    assert explained(registry, uri, "train") == train_ and len(train_ | selection | test) == COUNT
    if divided:
        by_hash = {PARTS[part]: sum(own == part for own in DECLARED) for part in ("train", "val", "test")}
        assert by_hash == {"train": len(train_), "validation": len(selection), "test": len(test)}


class Stranger:
    """A plugin's data that has no parts and does not divide itself: ``beside:x``."""

    @hookimpl
    def counterlens_schemes(self):
        return {"data": {"beside": "images of a test"}}

    @hookimpl
    def counterlens_open_dataset(self, uri):
        if uri.startswith("beside:"):
            rows = [(str(k), "ab"[LABELS[k]], f"p{k // 4}", partial(PIXELS.__getitem__, k)) for k in range(COUNT)]
            return Dataset(uri, ("a", "b"), lambda: tuple(Example(*row) for row in rows), lambda: "content")


def test_data_of_a_plugin_is_divided_alike(tmp_path):
    registry = load_registry(third_party=False, extra={"stranger": Stranger()})
    train_ = trained(registry, "beside:x", tmp_path / "weights")
    selection, test = (benchmarked(registry, "beside:x", part) for part in ("validation", "test"))
    assert len(train_) + len(selection) + len(test) == len(train_ | selection | test) == COUNT


def test_options_say_in_bench_what_they_say_in_explain(registry, tmp_path):
    for k in range(COUNT):
        save(tmp_path / "abc"[k % 3] / f"p{k // 4}-{k}.png", k)
    asked = {**OPTIONS, "group_by": "p(\\d+)-", "crop": "square", "classes": "a,b", "split": "validation"}
    suite = suite_of({**asked, "suite": None, "data": f"folder:{tmp_path}", "metrics": ()})
    assert suite.protocol.split == "validation"
    data = open_data(suite.protocol.data, registry)
    uri = refined(f"folder:{tmp_path}", split="validation", group="p(\\d+)-", crop="square", classes="a,b")
    wanted = {one.picture.digest for one in gather(Request(images=(uri,)), registry)}
    found = [data.sample(k, "validation").pixels for k in range(data.length("validation"))]
    assert {one.shape for one in found} == {(12, 12, 3)} and len(found) == len(wanted) > 0
    plain = refined(f"folder:{tmp_path}", split="validation", group="p(\\d+)-", classes="a,b")
    decoded = {digest_of(data, k, "validation") for k in range(len(found))}
    assert decoded == {one.digest for one in gather(Request(images=(plain,)), registry)}  # known again uncut
    assert suite_of({**OPTIONS, "suite": None, "data": f"{plain}", "split": "train", "metrics": ()}).protocol.split == (
        "validation"  # what a URI says itself stays
    )
    with pytest.raises(UsageError, match="--crop is about folder:DIR"):
        suite_of({**OPTIONS, "suite": "smoke", "data": None, "metrics": (), "crop": "pad"})


@pytest.fixture
def lights(tmp_path):
    """Dark and light pictures."""
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 90)):
        (tmp_path / "lights" / name).mkdir(parents=True)
        for k in range(60):
            pixels = rng.integers(low, low + 160, (20, 24, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "lights" / name / f"{k}.png")
    return f"folder:{tmp_path}/lights"


@pytest.fixture
def selector(registry, lights, tmp_path):
    """A classifier trained on the training part, its pictures cut, and the hashes of what it saw."""
    trainer = registry.make("trainer", "classifier arch=small-cnn:4 size=16 epochs=3 lr=0.01 jitter=0.1")
    train(registry, trainer, f"{lights}?split=train&crop=square", str(tmp_path / "out"), Networks(device="cpu"))
    folders = [tmp_path / "out" / role for role in ("selector", "judge")]
    selected, judged = (training_images.read_record(folder / training_images.NAME) for folder in folders)
    assert selected and judged and not selected & judged
    assert selected | judged == explained(registry, lights, "train")
    return f"ensemble:{tmp_path}/out/selector", selected


def planned(registry, uri, classifier, split, **how):
    changes = {key: how.pop(key) for key in ("model", "judge") if key in how}
    asked = {**OPTIONS, "suite": None, "data": uri, "metrics": ("l1",), "split": split, "classifier": classifier}
    suite = suite_of({**asked, **changes})
    return plan(suite, how.pop("rows", ["identity"]), Session(registry), device="cpu", controls=(), **how)


def test_a_classifier_is_not_benchmarked_on_its_training_images(registry, lights, selector):
    classifier, seen = selector
    fresh = planned(registry, lights, classifier, "test")
    assert len(fresh.jobs) > 5 and not fresh.notes and not {job.digest for job in fresh.jobs} & seen
    words = rf"the classifier {classifier} was trained on {len(seen)} of the \d+ images \(\w+/\d+.png.*--force"
    with pytest.raises(UsageError, match=words):
        planned(registry, lights, classifier, "train")
    with pytest.raises(UsageError, match=f"the judge {classifier} was trained on {len(seen)} of"):
        planned(registry, lights, classifier.replace("selector", "judge"), "train", judge=classifier)
    forced = planned(registry, lights, classifier, "train", force=True)
    (note,) = forced.manifest()["notes"]
    assert f"trained on {len(seen)} of the {len(forced.jobs)} images" in note and "not about new images" in note


def test_controls_of_real_images_need_a_training_part(registry, tmp_path, selector):
    for k in range(4):
        save(tmp_path / "lone" / "test" / ("dark", "light")[k % 2] / f"{k}.png", k)
    planned(registry, f"folder:{tmp_path}/lone", selector[0], None)
    with pytest.raises(UsageError, match=r"no split 'train'; it has test; nearest-real and real .* --controls"):
        planned(registry, f"folder:{tmp_path}/lone", selector[0], None, rows=["real"])


def test_a_pipeline_is_not_benchmarked_on_its_training_images(registry, lights, selector, tmp_path):
    model = tiny("ddpm", tmp_path / "models" / "ddpm")
    test = explained(registry, lights, "test")
    how = {"model": str(model), "rows": ["reconstruct"], "steps": 2}
    planned(registry, lights, selector[0], "test", **how)
    training_images.write_record(tmp_path / "models", test, lights)  # as of train backbone, which trains several
    with pytest.raises(UsageError, match=rf"the pipeline {model} was trained on (\d+) of the \1 images"):
        planned(registry, lights, selector[0], "test", **how)
    (tmp_path / "models" / training_images.NAME).write_text("{}")
    with pytest.raises(UsageError, match="not a record of training images"):
        planned(registry, lights, selector[0], "test", **how)


def test_explain_says_which_images_are_training_images(registry, lights, selector, tmp_path):
    classifier, seen = selector
    model = tiny("ddpm", tmp_path / "ddpm")
    how = {"method": "reconstruct", "steps": 2, "model": str(model), "classifier": classifier, "force": True}
    for part, cut in (("train", ""), ("train", "&crop=pad"), ("test", "")):
        request = Request(images=(f"{lights}?split={part}&first=8{cut}",), **how)
        hashes = [one.digest for one in gather(request, registry)]
        records = list(explain(request, registry, out=tmp_path / "runs"))
        known = [["classifier"] if digest in seen else None for digest in hashes]
        assert [record.get("trained_on") for record in records] == known
        noted = [any("a training image of the classifier" in note for note in r["notes"]) for r in records]
        assert noted == [h in seen for h in hashes] and any(noted) == (part == "train")
