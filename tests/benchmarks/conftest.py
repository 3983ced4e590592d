"""Runs of the benchmark on the embedded shapes, with rows that need no pipeline."""

import textwrap

import pytest

from counterlens.benchmarks.protocol.plan import plan
from counterlens.benchmarks.protocol.protocol import Protocol
from counterlens.benchmarks.protocol.suite import Suite
from counterlens.benchmarks.running import local, runner
from counterlens.benchmarks.running.launch import LaunchRank
from counterlens.core.engine.session import Session
from counterlens.core.plugin import registry as registries

SHAPES = {"data": "domain:shapes", "classifier": "domain:shapes", "judge": "domain:shapes-judge"}


@pytest.fixture(scope="session")
def registry():
    return registries.load_registry(third_party=False)


@pytest.fixture
def suite():
    """``suite(limit=…, …)``: shapes with a small protocol."""

    def make(**changes):
        values = {**SHAPES, "limit": 6, "batch": 2, "gallery": 8, "metrics": ("flip_rate", "l1"), "resamples": 100}
        return Suite(name="test", summary="a test", protocol=Protocol(**{**values, **changes}), controls=())

    return make


@pytest.fixture
def begin(registry, tmp_path):
    """``begin(suite, rows)`` -> an open run."""

    def make(suite, rows=("identity",), out="runs", **how):
        planned = plan(suite, rows, Session(registry), device="cpu", **how)
        return runner.start(planned, tmp_path / out)

    return make


@pytest.fixture
def work(registry):
    """``work(bench)`` with one worker in this process, or several; returns the records by row."""

    def make(bench, workers=1, place=LaunchRank()):  # noqa: B008
        crew = local.crew(bench.run.manifest, bench.run, ["cpu"] * workers, 1, registry)
        try:
            assert runner.Runner(bench, crew, place).work()
        finally:
            crew.close()
        return bench.records()

    return make


@pytest.fixture
def touchy(tmp_path, monkeypatch):
    """Writes a module with a black-box classifier of shapes; ``body`` sees ``x`` and may raise or kill."""

    def make(body):
        text = f"""
import os, signal
from pathlib import Path
import torch
from counterlens.core.plugin.registry import load_registry
HERE = Path(__file__).parent
opened = []
def ask(images):
    if not opened:
        opened.append(load_registry(third_party=False).open_classifier("domain:shapes"))
    x = torch.as_tensor(images)
    # a drawing with a little noise: drawings have flat parts, and the opener's probes are noise alone and a ramp
    step = (x[..., 1:] - x[..., :-1]).abs().flatten(1)
    noisy = ((step == 0).float().mean(1) < 0.3) & (step.mean(1) > 0.012) & (step.mean(1) < 0.2)
{textwrap.indent(textwrap.dedent(body), "    ")}
    return opened[0].probabilities(x).numpy()
ask.labels = ("bouba", "kiki")
"""
        (tmp_path / "touchy.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return {"classifier": "python:touchy:ask"}

    yield make
    import sys

    sys.modules.pop("touchy", None)
