"""Where a pipeline runs and in which number type."""

import pytest
import torch

from counterlens.core.errors import UsageError
from counterlens.core.models.device import device_of, dtype_of


def test_number_types():
    assert dtype_of("bfloat16") is torch.bfloat16
    with pytest.raises(UsageError, match="did you mean 'float16'"):
        dtype_of("flaot16")


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == device_of("cpu") == "cpu"
    with pytest.raises(UsageError, match="no CUDA device is available"):
        device_of("cuda:1")
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        device_of("gpu")
