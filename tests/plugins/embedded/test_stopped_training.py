"""Training as a user runs it, in a process of its own: killed, out of space, twice from one seed."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STEPS = 30
CHECKOUT = Path(__file__).parents[3] / "plugins" / "embedded"  # the wheel has no folder make
SCRIPT = f"""
import sys, torch
torch.set_num_threads(1)
from counterlens.plugins import embedded
embedded.__path__.append({str(CHECKOUT)!r})
from counterlens.core.training import fit
from counterlens.plugins.embedded.make import train
fit.EVERY_S = 0.0  # a checkpoint a step
train.main(sys.argv[1:])
"""


def start(out: Path, *part: str, steps: int, before: str = "") -> subprocess.Popen:
    command = [sys.executable, "-c", before + SCRIPT, *part, "--out", str(out), "--steps", str(steps)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def bytes_of(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*.safetensors"))}


def test_killed_training_resumes_to_the_bytes_of_one_that_was_not(tmp_path):
    part = ("digits", "classifier")
    whole = start(tmp_path / "whole", *part, steps=STEPS)
    killed = start(tmp_path / "killed", *part, steps=STEPS)
    checkpoint = tmp_path / "killed" / "digits" / "checkpoints" / "classifier" / "checkpoint.pt"
    while not checkpoint.exists() and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not bytes_of(tmp_path / "killed"), "it was killed too late to show anything"
    again = start(tmp_path / "killed", *part, steps=STEPS)
    _, said = again.communicate()
    whole.communicate()
    assert again.returncode == whole.returncode == 0, said
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole") != {}


# the operating system's own limit on a file's size stands for the full disk
FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
"""


def assert_said(run: subprocess.Popen, out: Path) -> None:
    _, said = run.communicate()
    assert run.returncode != 0
    assert "MissingError: no space left to write" in said.strip().splitlines()[-1]
    assert not list(out.rglob("*.tmp-*")) and not list(out.rglob("*.partial"))


def test_no_space_for_a_checkpoint(tmp_path):
    assert_said(start(tmp_path, "digits", "classifier", steps=2, before=FULL), tmp_path)
    assert not bytes_of(tmp_path)


@pytest.mark.parametrize("part", ["classifier", "ddpm"])
def test_one_seed_gives_the_same_bytes_also_when_there_was_no_space_for_them(tmp_path, part):
    out = {name: tmp_path / name for name in ("a", "b")}
    for run in [start(out[name], "digits", part, steps=2) for name in out]:
        assert run.communicate() and run.returncode == 0
    assert bytes_of(out["a"]) == bytes_of(out["b"]) != {}
    for file in out["a"].rglob("*.safetensors"):
        file.unlink()
    assert_said(start(out["a"], "digits", part, steps=2, before=FULL), out["a"])
    assert not bytes_of(out["a"])
    start(out["a"], "digits", part, steps=2).communicate()
    assert bytes_of(out["a"]) == bytes_of(out["b"])
