"""Tensors in files: whole, with their metadata, and refused in one line where something is wrong."""

import json

import pytest
import torch

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.utils import weights


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "new" / "w.safetensors"
    whole = torch.arange(12.0).view(3, 4)
    tensors = {"a": whole.T, "b": whole[0].requires_grad_(), "shared": whole}  # strided, differentiated, shared memory
    weights.write_weights(path, tensors, format="mine", names=("x", "y"), about={"n": 2, "p": float("nan")})
    found, about = weights.read_weights(path, "mine", "is of another kind")
    assert all(torch.equal(found[name], value.detach()) for name, value in tensors.items())
    assert about["format"] == "mine" and json.loads(about["names"]) == ["x", "y"]
    assert json.loads(about["about"]) == {"n": 2, "p": None}
    assert [p.name for p in path.parent.iterdir()] == ["w.safetensors"], "no leftovers"


def test_another_format_is_named(tmp_path):
    path = tmp_path / "w.safetensors"
    weights.write_weights(path, {"a": torch.ones(1)})
    with pytest.raises(UsageError, match="has no words: make them"):
        weights.read_weights(path, "words", "has no words: make them with …")


def test_files_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(MissingError, match="does not exist"):
        weights.read_weights(tmp_path / "none.safetensors")
    with pytest.raises(UsageError, match="is a folder"):
        weights.read_weights(tmp_path)
    (tmp_path / "w.pth").write_bytes(b"\x80")
    with pytest.raises(UsageError, match="is a pickle and is not loaded"):
        weights.read_weights(tmp_path / "w.pth")
    weights.write_weights(tmp_path / "cut.safetensors", {"a": torch.ones(100)})
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:-8])
    with pytest.raises(UsageError, match="not a whole safetensors file"):
        weights.read_weights(tmp_path / "cut.safetensors")


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t: t.pop("weight"), "lacks 'weight'"),
        (lambda t: t.update(more=torch.ones(1)), "has beyond the architecture 'more'"),
        (lambda t: t.update(weight=torch.ones(3, 2)), r"is \[3, 2\], the architecture has \[2, 2\]"),
    ],
)
def test_weights_of_another_architecture_are_refused(change, words):
    net = torch.nn.Linear(2, 2)
    tensors = dict(net.state_dict())
    change(tensors)
    with pytest.raises(UsageError, match=words):
        weights.fill(net, tensors, "w.safetensors")


def test_a_fingerprint_tells_weights_apart():
    torch.manual_seed(0)
    one, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    assert weights.fingerprint(one) != weights.fingerprint(other)
    other.load_state_dict(one.state_dict())
    assert weights.fingerprint(one) == weights.fingerprint(other)


def test_labels_in_every_form_that_files_have():
    assert weights.labels_of("a, b") == weights.labels_of('["a", "b"]') == weights.labels_of({"1": "b", "0": "a"})
    assert weights.labels_in({}) == () and weights.labels_of("a") == ("a",)
    with pytest.raises(UsageError, match="must be a list of names"):
        weights.labels_of(3)
