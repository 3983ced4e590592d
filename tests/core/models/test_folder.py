"""A pipeline folder read without its weights."""

import json

import pytest
import torch
from safetensors.torch import save_file

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.models.folder import describe_folder, header
from counterlens.core.plugin.registry import load_registry


def folder(tmp_path, parts=("unet",)):
    index = {"_class_name": "MyPipeline", "_diffusers_version": "0", "scheduler": ["diffusers", "DDIMScheduler"]}
    index |= {part: ["diffusers", "Some"] for part in parts}
    index["safety_checker"] = [None, None]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "scheduler").mkdir()
    config = {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction", "num_train_timesteps": 1000}
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    for part in parts:
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text("{}")
        save_file({"a": torch.zeros(3, 5), "b": torch.zeros(7).half()}, tmp_path / part / "model.safetensors")
    return tmp_path


def part(found, name):
    return next(one for one in found["parts"] if one["part"] == name)


def test_counts_without_loading(tmp_path):
    found = describe_folder(folder(tmp_path), load_registry(third_party=False).recognise)
    assert found["parameters"] == 22
    assert found["prediction"] == "v_prediction"
    assert found["family"] is None
    assert part(found, "unet") | {"bytes": 0} == {
        "part": "unet",
        "class": "Some",
        "status": "ok",
        "parameters": 22,
        "bytes": 0,
        "dtypes": ["F16", "F32"],
    }
    assert "safety_checker" not in [one["part"] for one in found["parts"]]


def test_variants_and_shards_count_once(tmp_path):
    place = folder(tmp_path) / "unet"
    save_file({"a": torch.zeros(3, 5).half()}, place / "model.fp16.safetensors")
    assert describe_folder(tmp_path, load_registry(third_party=False).recognise)["parameters"] == 22
    (place / "model.safetensors").unlink()
    assert describe_folder(tmp_path, load_registry(third_party=False).recognise)["parameters"] == 15
    (place / "model.fp16.safetensors").unlink()
    for k in (1, 2):
        save_file({f"a{k}": torch.zeros(4)}, place / f"model-0000{k}-of-00002.safetensors")
    assert describe_folder(tmp_path, load_registry(third_party=False).recognise)["parameters"] == 8


def test_what_is_wrong_is_said(tmp_path):
    place = folder(tmp_path, ("unet", "vae", "text_encoder"))
    (place / "unet" / "model.safetensors").write_bytes((place / "unet" / "model.safetensors").read_bytes()[:-3])
    (place / "vae" / "model.safetensors").unlink()
    (place / "text_encoder" / "model.safetensors").unlink()
    (place / "text_encoder" / "config.json").unlink()
    (place / "text_encoder").rmdir()
    found = describe_folder(place, load_registry(third_party=False).recognise)
    said = {one["part"]: one["status"] for one in found["parts"]}
    assert said == {
        "scheduler": "ok",
        "unet": "damaged weights",
        "vae": "no safetensors",
        "text_encoder": "missing",
    }


@pytest.mark.parametrize(
    "content", [b"", b"short", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{}extra"]
)
def test_a_damaged_header(tmp_path, content):
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    assert header(file) == {}


def test_no_folder_and_no_index(tmp_path):
    with pytest.raises(MissingError, match="does not exist"):
        describe_folder(tmp_path / "gone", load_registry(third_party=False).recognise)
    with pytest.raises(UsageError, match=r"model_index\.json"):
        describe_folder(tmp_path, load_registry(third_party=False).recognise)
