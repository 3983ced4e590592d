"""What is said of labelled images before hours are spent on them."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from counterlens.cli.main import main
from counterlens.core.data.audit import audit, probe
from counterlens.core.data.dataset import Example
from counterlens.core.plugin.registry import load_registry

REGISTRY = load_registry(third_party=False)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 60)):
        (tmp_path / name).mkdir()
        for k in range(30):
            Image.fromarray(rng.integers(low, low + 150, (16, 16, 3), np.uint8)).save(tmp_path / name / f"{k}.png")
    return tmp_path


def test_good_images_have_no_warnings(folder):
    found = audit(REGISTRY.open_dataset(str(folder)))
    assert [row["images"] for row in found["classes"]] == [30, 30] and not found["warnings"]
    assert found["sizes"] == {"16 x 16": 60} and found["probe"]["auc"] > 0.95


def test_what_is_wrong_is_said(folder):
    (folder / "dark" / "10.png").write_bytes((folder / "light" / "3.png").read_bytes())
    (folder / "light" / "again.png").write_bytes((folder / "light" / "4.png").read_bytes())
    (folder / "dark" / "5.png").write_bytes(b"\x89PNG no")
    for path in sorted((folder / "dark").iterdir())[10:]:
        path.unlink(missing_ok=True)
    said = "\n".join(audit(REGISTRY.open_dataset(str(folder)))["warnings"])
    assert "class 'dark' has" in said and "few to learn from" in said
    assert "1 images are in more than one class" in said and "twice in different groups" in said


def test_labels_that_a_probe_cannot_learn():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 255, (80, 32, 32, 3), np.uint8)
    examples = [Example(str(k), "ab"[k % 2], str(k // 2), lambda: None) for k in range(80)]
    assert probe(images, examples, ("a", "b"))["chance"]
    images[::2] //= 2
    assert not probe(images, examples, ("a", "b"))["chance"]
    assert probe(images[:2], examples[:2], ("a", "b")) == {}


def test_the_command(folder):
    result = CliRunner().invoke(main, ["data", "check", str(folder), "--json", "-q"])
    assert json.loads(result.output)["classes"][0] == {"class": "dark", "images": 30, "groups": 30, "unreadable": 0}
    result = CliRunner().invoke(main, ["data", "check", str(folder), "-q", "--first", "3"])
    assert "dark" in result.output and "warning: class 'dark' has 3 images" in result.output
