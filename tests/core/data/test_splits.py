"""Data divided into parts, by groups and by nothing else."""

import numpy as np
from PIL import Image

from counterlens.core.plugin.registry import load_registry

REGISTRY = load_registry(third_party=False)


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def many(root, count=60):
    for name in ("cat", "dog"):
        for k in range(count):
            picture(root / name / f"{name}-{k // 2}-{k % 2}.png", 2 * k + (name == "cat"))
    return root


def test_a_plain_folder_is_divided_by_groups_alike_whatever_is_asked_for(tmp_path):
    uri = f"folder:{many(tmp_path)}?group=-(\\d+)-"
    parts = {name: REGISTRY.open_dataset(f"{uri}&split={name}") for name in ("train", "validation", "test", "all")}
    groups = {name: {e.group for e in parts[name].examples} for name in parts}
    assert not groups["train"] & groups["test"] and not groups["validation"] & groups["test"]
    assert groups["train"] | groups["validation"] | groups["test"] == groups["all"]
    assert sum(len(parts[name]) for name in ("train", "validation", "test")) == len(parts["all"]) == 120
    assert len(parts["train"]) > 60 > len(parts["test"]) > 10
    alike = REGISTRY.open_dataset(f"{uri}&split=test&classes=dog,cat&first=3")
    assert alike.labels == ("dog", "cat") and alike.counts() == {"dog": 3, "cat": 3}
    assert {e.id for e in alike.examples} <= {e.id for e in parts["test"].examples}
