"""Tests run offline, on tiny models, with one thread (a tiny model on many threads is thirty times slower)."""

import os
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("COUNTERLENS_CACHE", tempfile.mkdtemp(prefix="counterlens-test-cache-"))

import torch

torch.set_num_threads(1)
