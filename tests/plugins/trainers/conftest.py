"""Two classes of small pictures, and the train command as a function."""

import numpy as np
import pytest
import torch
from PIL import Image

from counterlens.core.models.model_options import ModelOptions
from counterlens.core.plugin.registry import load_registry
from counterlens.core.workflows.train import train

torch.set_num_threads(1)
REGISTRY = load_registry(third_party=False)


def drawn(root, count=20, alike=False):
    """Dark and light pictures (or twice the same kind), two of each patient."""
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 0 if alike else 90)):
        (root / name).mkdir(parents=True)
        for k in range(count):
            pixels = rng.integers(low, low + 160, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{name}{k // 2}-{k % 2}.png")
    return root


@pytest.fixture
def pictures():
    """``pictures(folder, count, alike)``: a folder of two classes."""
    return drawn


@pytest.fixture
def folder(tmp_path):
    return drawn(tmp_path / "data")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """``run("classifier arch=small-cnn", data, model=…, strict=…)`` -> (record, notices)."""
    monkeypatch.setenv("COUNTERLENS_CACHE", str(tmp_path / "cache"))

    def call(text, data, out="out", model="", **how):
        notes = []
        trainer = REGISTRY.make("trainer", text)
        networks = ModelOptions(model=str(model), device="cpu")
        return train(REGISTRY, trainer, str(data), str(tmp_path / out), networks, notice=notes.append, **how), notes

    return call
