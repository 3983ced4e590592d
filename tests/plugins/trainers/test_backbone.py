"""Pipelines from scratch: written in a layout that opens, resumed after a kill, never over somebody else's folder."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from counterlens.core.data import training_images
from counterlens.core.errors import UsageError
from counterlens.core.models import hub
from counterlens.core.models.pool import Key
from counterlens.core.plugin.registry import load_registry
from counterlens.plugins.trainers.backbones import preview
from counterlens.plugins.trainers.backbones.preview import nearest

REGISTRY = load_registry(third_party=False)
QUICK = "backbone size=tiny effort=0.0005 batch=0.1 held=0.2 looks=1"


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr(preview, "SAMPLES", 2)
    monkeypatch.setattr(preview, "STEPS", 2)
    monkeypatch.setattr(preview, "HELD_BATCHES", 1)


def test_every_pipeline_opens_and_its_progress_is_drawn(run, folder, tmp_path):
    record, _ = run(QUICK, folder)
    out = tmp_path / "out"
    for family in ("kandinsky22", "stable-diffusion", "ddpm"):
        index = hub.read_index(str(out / family))
        assert REGISTRY.recognise(index) == family
        loaded = REGISTRY.family(family).load(Key(str(out / family)))
        image = torch.rand(1, 3, *loaded.size) * 2 - 1
        assert loaded.decode(loaded.encode(image)).shape == image.shape == (1, 3, 32, 32)
        assert (out / "progress" / f"{family}.png").is_file() and (out / "progress" / f"{family}-nearest.png").is_file()
        assert record["pipelines"][family]["nearest_training_image"] > 0
    assert record["images"] == {"train": 32, "held": 8}
    assert all(part["held_out_loss"] > 0 for part in record["parts"].values())
    assert not (out / "checkpoints").exists()
    seen = training_images.read_record(training_images.beside(out / "ddpm"))  # what the pipelines of the folder saw
    assert seen == {example.digest() for example in REGISTRY.open_dataset(str(folder)).examples} and len(seen) == 40
    again, notes = run(QUICK, folder)  # nothing is left to do, and the folder says so
    assert "going on" in notes[0] and again["pipelines"] == record["pipelines"]


def test_texts_with_the_names_of_the_classes_are_its_words(run, folder, tmp_path):
    run(QUICK + " pipelines=stable-diffusion", folder)
    loaded = REGISTRY.family("stable-diffusion").load(Key(str(tmp_path / "out" / "stable-diffusion")))
    tokens = loaded.others["tokenizer"].tokenize("a light")
    assert tokens == ["a</w>", "light</w>"]
    assert not (tmp_path / "out" / "ddpm").exists()


def test_another_folder_is_not_written_over(run, folder, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="holds something else"):
        run(QUICK, folder)
    run(QUICK + " pipelines=ddpm", folder, out="mine")
    with pytest.raises(UsageError, match="other images, another seed or other options"):
        run(QUICK + " pipelines=ddpm", folder, out="mine", seed=1)


def test_a_dry_run_says_how_long_and_how_big_and_writes_nothing(run, folder, tmp_path):
    plan, _ = run(QUICK + " pipelines=stable-diffusion,ddpm,kandinsky22", folder, dry_run=True)
    assert plan["classes"] == {"dark": 20, "light": 20} and plan["latents"] == "8 x 8 x 8"
    assert set(plan["parts"]) == {"clip", "vae", "stable-diffusion", "ddpm", "kandinsky22"}
    assert all(part["parameters"] > 1e5 and part["seconds_a_step"] > 0 for part in plan["parts"].values())
    assert not (tmp_path / "out").exists()
    record, _ = run(QUICK + " pipelines=ddpm", folder)
    assert record["parts"]["ddpm"]["parameters"] == plan["parts"]["ddpm"]["parameters"]
    about = run("classifier", folder, dry_run=True)[0]
    assert about["options"]["arch"] == ("pool-cnn",) and about["classes"]["dark"] == 20


def test_too_few_images(run, pictures, tmp_path):
    with pytest.raises(UsageError, match="a generator needs 20 at least"):
        run(QUICK, pictures(tmp_path / "few", 3))
    assert not (tmp_path / "out").exists()


def test_near_copies_are_near():
    train = torch.rand(5, 3, 32, 32) * 2 - 1
    distance, rows = nearest(train[[3, 1]], train)
    assert rows.tolist() == [3, 1] and float(distance.max()) < 1e-3
    assert float(nearest(-train[:1], train)[0]) > 0.1


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from counterlens.core.training import fit
from counterlens.plugins.trainers.backbones import preview
preview.SAMPLES = preview.STEPS = preview.HELD_BATCHES = 2
from counterlens.cli.main import entry
fit.EVERY_S = 0.0  # a checkpoint a step
entry()
"""


OPTIONS = {"size": "tiny", "pipelines": "ddpm", "effort": "0.002", "batch": "0.1", "held": "0.2", "looks": "1"}


def test_a_second_call_goes_on_after_a_kill(run, folder, tmp_path):
    def start(out):
        options = [text for name, value in OPTIONS.items() for text in (f"--{name}", value)]
        command = [sys.executable, "-c", SCRIPT, "train", "backbone", str(folder), *options, "--out", str(out)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COUNTERLENS_CACHE": str(tmp_path / "cache")}
        return subprocess.Popen(
            [*command, "--device", "cpu"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def digest(out):
        return hashlib.sha256(next((out / "ddpm").rglob("*.safetensors")).read_bytes()).hexdigest()

    killed = start(tmp_path / "killed")
    checkpoint = tmp_path / "killed" / "checkpoints" / "ddpm" / "checkpoint.pt"
    while not checkpoint.exists() and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL and not (tmp_path / "killed" / "backbone.json").exists()
    again = start(tmp_path / "killed")
    _, said = again.communicate()
    assert again.returncode == 0 and "going on" in said, said
    options = " ".join(f"{name}={value}" for name, value in OPTIONS.items())
    run(f"backbone {options}", f"{folder}?split=train", out="whole")
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")
    record = json.loads((tmp_path / "killed" / "records" / "ddpm.json").read_text())
    assert record["steps"] == 9 and record["held_out_losses"][-1][0] == 9
