"""Tests run offline, on tiny models, with one thread (a tiny model on many threads is thirty times slower)."""

import os
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("COUNTERLENS_CACHE", tempfile.mkdtemp(prefix="counterlens-test-cache-"))

from pathlib import Path

import torch

from counterlens.plugins import embedded

# The scripts that made the embedded weights are not in the wheel: tests take them from the checkout, as their users do.
if str(checkout := Path(__file__).parent.parent / "plugins" / "embedded") not in embedded.__path__:
    embedded.__path__.append(str(checkout))

torch.set_num_threads(1)
