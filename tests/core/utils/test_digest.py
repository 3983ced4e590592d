"""Digests: equal for what means the same, different for what does not."""

import dataclasses
import enum
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import BaseModel, ConfigDict

from counterlens.core.utils.digest import canonical, digest, image_digest, weight_hashes


class Piece(BaseModel):
    model_config = ConfigDict(frozen=True)


class One(Piece):
    weight: float = 1


class Two(Piece):
    weight: float = 1


class Method(BaseModel):
    pieces: tuple[Piece, ...] = ()


@dataclasses.dataclass
class Point:
    x: float
    y: tuple[int, ...] = ()


class Colour(str, enum.Enum):
    RED = "red"


def test_values_that_mean_the_same_have_one_digest():
    assert digest({"b": (1, 2.0), "a": -0.0}) == digest({"a": 0, "b": [1.0, 2]})
    assert digest(Path("a/b")) == digest("a/b") and digest(Colour.RED) == digest("red")
    assert digest({3, 1, 2}) == digest(frozenset([2, 3, 1])) and digest(np.float64(0.25)) == digest(0.25)
    assert digest(torch.float32) == digest("torch.float32") and len(digest(None)) == 64
    assert canonical({"b": 1, "a": "ü"}) == '{"a":"\\u00fc","b":1}'


def test_values_that_differ_do_not():
    values = [0, 1, True, None, "1", 0.1, float("nan"), float("inf"), [], {}, [1], b"1", Point(1), Point(1, (2,))]
    values += [One(), Two(), One(weight=2), Method(pieces=(One(),)), Method(pieces=(Two(),)), np.zeros(2), np.zeros(3)]
    assert len({digest(v) for v in values}) == len(values)


def test_what_has_no_digest_says_so():
    with pytest.raises(TypeError, match=r"no digest for a builtins\.object"):
        digest({"a": object()})
    with pytest.raises(TypeError, match="same text"):
        digest({1: 2, "1": 3})


def test_image_digest_knows_the_shape():
    a = np.arange(48, dtype=np.uint8)
    assert image_digest(a.reshape(4, 4, 3)) != image_digest(a.reshape(2, 8, 3))
    assert image_digest(a.reshape(4, 4, 3)[:, ::-1]) == image_digest(a.reshape(4, 4, 3)[:, ::-1].copy())


def test_weight_hashes_read_a_file_once(tmp_path, monkeypatch):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "a.safetensors").write_bytes(b"1")
    (tmp_path / "readme.md").write_text("x")
    first = weight_hashes(tmp_path)
    assert list(first) == ["unet/a.safetensors"] and weight_hashes(tmp_path / "unet" / "a.safetensors")
    monkeypatch.setattr("counterlens.core.utils.digest.file_sha256", lambda path: "read")
    assert weight_hashes(tmp_path) == first
    monkeypatch.setattr("counterlens.core.utils.digest._hashed", {})
    assert weight_hashes(tmp_path) == first  # a later process remembers
    (tmp_path / "unet" / "a.safetensors").write_bytes(b"22")
    assert weight_hashes(tmp_path) == {"unet/a.safetensors": "read"}
