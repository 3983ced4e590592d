"""The commands of the tutorial, in a small version, on scans that are drawn here."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from counterlens.cli.main import main
from counterlens.core.plugin.registry import load_registry
from counterlens.plugins.trainers.backbones import preview

PAGE = Path(__file__).parent.parent / "docs" / "tutorial" / "your-own-images.md"
SMALL = {
    "classifier": "--size 32 --arch small-cnn:8 --judge-arch pool-cnn:8 --epochs 15 --lr 0.01 --jitter 0.1",
    "backbone": "--size tiny --effort 0.002 --batch 0.1 --looks 1 --pipelines kandinsky22",
    "explain": "--first 2 --steps 4 --force",
}


def commands() -> list[list[str]]:
    block = re.search(r"<!-- commands -->\n```\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert block
    return [shlex.split(line)[1:] for line in block[1].splitlines()]


def scan(rng: np.random.Generator, bumps: bool) -> np.ndarray:
    """A bright line on black, with or without bumps, and a white wedge in a corner."""
    x, y = np.arange(96), np.arange(64)[:, None]
    line = 34 + 4 * np.sin(x / 40 + rng.uniform(0, 6)) - (5 * (np.sin(x / 3) > 0.3) if bumps else 0)
    pixels = 200 * np.exp(-((y - line) ** 2) / 6) + rng.uniform(0, 25, (64, 96))
    pixels[x > 96 - 2 * (12 - y)] = 255
    return pixels.astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("CNV", "DME", "DRUSEN", "NORMAL"):
        (tmp_path / "oct" / label).mkdir(parents=True)
        for k in range(48 if label in ("DRUSEN", "NORMAL") else 8):
            name = f"{label}-{1000 + k // 2}-{k % 2}.png"
            Image.fromarray(scan(rng, label != "NORMAL")).save(tmp_path / "oct" / label / name)
    return tmp_path / "oct"


def test_three_commands_from_folders_to_counterfactuals(folder, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preview, "SAMPLES", 2)
    monkeypatch.setattr(preview, "STEPS", 2)
    assert len(commands()) == 3
    for words in commands():
        verb = words[1] if words[0] == "train" else words[0]
        words = [word.replace("DIR/oct", str(folder)) for word in words]
        result = CliRunner().invoke(main, [*words, *SMALL[verb].split(), "--device", "cpu", "--json", "-q"])
        assert result.exit_code in (0, 3), f"{verb}: {result.output} {result.exception}"
        if verb == "classifier":
            assert json.loads(result.output)["judge"]["accuracy"] > 0.8
    records = [json.loads(line) for line in result.output.splitlines()]
    assert len(records) == 4 and not any(record["failure"] for record in records)
    assert Image.open(records[0]["counterfactual"]).size == (32, 32)
    assert (Path(records[0]["counterfactual"]).parents[2] / "report.html").is_file()
    about = json.loads(Path("pipelines/backbone.json").read_text())
    groups = [
        {e.group for e in load_registry(third_party=False).open_dataset(uri).examples} for uri in _parts(about["data"])
    ]
    assert not groups[0] & groups[1] and all(re.search(r"-(\d+)-", r["image"])[1] in groups[1] for r in records)


def _parts(train: str) -> tuple[str, str]:
    assert "split=train" in train
    return train, train.replace("split=train", "split=test")
