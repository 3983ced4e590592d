"""A plugin that is installed beside us: its data, classifier and features work in every command that takes a URI."""

import json
import os
import subprocess
import sys

import pytest

from counterlens.core.testing.tiny import tiny

PLUGIN = '''
"""Drawn stripes, a classifier that tells which way they run, and features of their edges."""

import numpy as np
import torch

from counterlens import Classifier, Preprocessing, hookimpl
from counterlens.core.classifiers.features import Features
from counterlens.core.data.dataset import Dataset, Example

LABELS = ("across", "down")


@hookimpl
def counterlens_schemes():
    return {
        "data": {"stripes": "so many drawn stripes"},
        "classifier": {"tilt": "which way stripes run"},
        "features": {"edges": "mean change along each axis"},
    }


def draw(label, k):
    noise = np.random.default_rng([k, LABELS.index(label)]).normal(0, 12, (16, 16, 3))
    rows = np.where(np.arange(16) % 4 < 2, 170, 80)[:, None, None] + noise
    pixels = rows if label == "across" else rows.transpose(1, 0, 2)
    return np.ascontiguousarray(pixels.clip(0, 255).astype(np.uint8))


@hookimpl
def counterlens_open_dataset(uri):
    scheme, _, rest = uri.partition(":")
    if scheme != "stripes":
        return None
    count = int(rest.partition("?")[0])

    def listed():
        return tuple(
            Example(id=f"{label}-{k}", label=label, group=f"{label}-{k}", read=lambda a=label, b=k: draw(a, b))
            for k in range(count)
            for label in LABELS
        )

    return Dataset(uri=uri, labels=LABELS, listed=listed, content=lambda: f"stripes {count}")


def edges(images):
    return torch.stack([images.diff(dim=d).abs().mean((1, 2, 3)) for d in (2, 3)], 1)


class Tilt(torch.nn.Module):
    def forward(self, x):
        return 20 * edges(x)


@hookimpl
def counterlens_open_classifier(uri, device):
    if not uri.startswith("tilt:"):
        return None
    return Classifier.of(Tilt(), Preprocessing(labels=LABELS, size=(16, 16)), uri, device)


@hookimpl
def counterlens_open_features(uri, context):
    return Features(name=uri, extract=edges) if uri.startswith("edges:") else None


@hookimpl
def counterlens_features_missing(uri, context):
    return "" if uri.startswith("edges:") else None
'''
CALLS = """
import json, sys
import torch
torch.set_num_threads(1)
from counterlens.cli.main import entry
for args in json.loads(sys.argv[1]):
    try:
        entry(args)
    except SystemExit as end:
        print("CODE", end.code, flush=True)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder on the path with a package as an installer leaves it."""
    place = tmp_path_factory.mktemp("site")
    (place / "striped.py").write_text(PLUGIN)
    about = place / "striped-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: striped\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[counterlens]\nstriped = striped\n")
    tiny("ddpm", place / "model")
    return place


@pytest.fixture
def called(installed, tmp_path):
    """Commands, one after the other in one process: (exit code, objects on stdout) of each, and stderr."""

    def run(*calls):
        path = os.pathsep.join([str(installed), *filter(None, sys.path)])
        done = subprocess.run(
            [sys.executable, "-c", CALLS, json.dumps([list(map(str, args)) for args in calls])],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
        )
        *parts, _ = done.stdout.split("CODE ")
        codes = [int(part.splitlines()[0]) for part in done.stdout.split("CODE ")[1:]]
        rows = [[json.loads(line) for line in part.splitlines() if line.startswith("{")] for part in parts]
        return list(zip(codes, rows, strict=True)), done.stderr

    return run


def test_data_classifier_and_features_of_a_stranger(called, installed, tmp_path):
    quick = ["--model", installed / "model", "--steps", 2, "--json", "-q"]
    learn = ["--arch", "small-cnn:4", "--size", 16, "--epochs", 3, "--lr", 0.01, "--out", tmp_path / "net"]
    measure = ["--metric", "cosine features=edges:x", "--limit", 4, "--controls", "none", "--workers", 1]
    (explained, trained, benched), err = called(
        ["explain", "stripes:30", "--split", "test", "--classifier", "tilt:x", *quick],
        ["train", "classifier", "stripes:30", *learn, "--json", "-q"],
        ["bench", "--data", "stripes:30", "--classifier", "tilt:x", "--methods", "reconstruct", *measure, *quick],
    )
    assert explained[0] in (0, 3), err
    assert {row["source"] for row in explained[1]} == {"across", "down"} and len(explained[1]) < 30
    assert all(row["source"] == row["label"] for row in explained[1])
    assert trained[0] == 0 and {path.parent.name for path in (tmp_path / "net").glob("*/training_images.json")}, err
    assert benched[0] == 0, err
    (cosine,) = [row for row in benched[1][0]["rows"] if "cosine" in row["metric"]]
    assert cosine["n"] == 4 and -1 <= cosine["value"] <= 1


def test_unknown_schemes_list_those_of_strangers(called, installed):
    model = ["--model", installed / "model"]
    wrong = ["--metric", "cosine features=edgs:x", "--methods", "reconstruct", "--controls", "none"]
    (data, classifier, features), err = called(
        ["bench", "--data", "strips:30", "--classifier", "tilt:x"],
        ["explain", "stripes:30", "--classifier", "tillt:x", *model],
        ["bench", "--data", "stripes:30", "--classifier", "tilt:x", *wrong, *model],
    )
    assert (data[0], classifier[0], features[0]) == (2, 2, 2)
    assert all(f"did you mean '{name}'" in err for name in ("stripes", "tilt", "edges")), err
