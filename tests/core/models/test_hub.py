"""Pipelines of the hub: what is fetched, and what is not there."""

import pytest

from counterlens.core.errors import MissingError
from counterlens.core.models import hub


def test_a_hub_id_that_is_not_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingError, match="not in the local cache: leave --offline out once") as caught:
        hub.read_index("nobody/nothing", offline=True)
    assert caught.value.exit_code == 4


def test_only_needed_parts_and_only_safetensors_are_fetched(monkeypatch, tmp_path):
    from fnmatch import fnmatch

    asked = {}
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda model, **more: asked.update(more) or tmp_path)
    hub.resolve("somebody/something", "main", True, ("unet", "tokenizer"))
    kept = lambda name: any(fnmatch(name, pattern) for pattern in asked["allow_patterns"])  # noqa: E731
    assert kept("model_index.json")
    assert kept("unet/config.json")
    assert kept("tokenizer/merges.txt")
    assert kept("unet/diffusion_pytorch_model.safetensors")
    assert kept("unet/diffusion_pytorch_model-00001-of-00002.safetensors")
    for name in ("vae/config.json", "unet/diffusion_pytorch_model.bin", "v1-5.ckpt"):
        assert not kept(name)
    assert not kept("unet/diffusion_pytorch_model.fp16.safetensors")
    assert not kept("unet/diffusion_pytorch_model.non_ema.safetensors")
    assert (asked["revision"], asked["local_files_only"]) == ("main", True)
    hub.resolve("somebody/something", "main", True, ("unet",), "fp16")
    assert kept("unet/diffusion_pytorch_model.fp16.safetensors")
    assert not kept("unet/diffusion_pytorch_model.safetensors")
