import json

import pytest
import torch
from safetensors.torch import save_file

from counterlens.core.errors import MissingError, UsageError
from counterlens.plugins.classifiers import architecture, open_classifier

ABOUT = {"arch": "small-cnn:4", "labels": "cat,dog", "size": "16", "mean": "[0.5, 0.5, 0.5]", "std": "0.5"}


def saved(path, arch="small-cnn:4", classes=2, about=ABOUT):
    torch.manual_seed(0)
    module = architecture(arch, classes).eval()
    save_file(module.state_dict(), path, metadata=about)
    return module


def test_a_file_that_says_what_it_is(tmp_path):
    path = tmp_path / "a.safetensors"
    module = saved(path)
    classifier = open_classifier(f"file:{path}")
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    torch.testing.assert_close(classifier.logits(x), module((x - 0.5) / 0.5))
    classifier.logits(x).sum().backward()
    assert x.grad.abs().sum() > 0
    assert classifier.labels == ("cat", "dog") and classifier.contract.size == (16, 16)


@pytest.mark.parametrize("arch", ["small-cnn", "timm:test_resnet", "torchvision:squeezenet1_1"])
def test_architectures(tmp_path, arch):
    path = tmp_path / "a.safetensors"
    saved(path, arch, 3, {"arch": arch, "labels": '["a, b", "c", "d"]', "size": "32x48"})
    classifier = open_classifier(f"file:{path}")
    assert classifier.labels == ("a, b", "c", "d") and classifier.contract.size == (32, 48)
    assert classifier.probabilities(torch.rand(1, 3, 20, 20)).shape == (1, 3)


def test_a_json_beside_it_wins_and_the_uri_wins_over_both(tmp_path):
    path = tmp_path / "a.safetensors"
    saved(path, about={"labels": "x,y"})
    (tmp_path / "a.json").write_text(json.dumps({"arch": "small-cnn:4", "labels": {"1": "no", "0": "yes"}, "size": 8}))
    assert open_classifier(f"file:{path}").labels == ("yes", "no")
    changed = open_classifier(f"file:{path}?labels=a,b&size=24&mean=0.5")
    assert changed.labels == ("a", "b") and changed.contract.size == (24, 24) and changed.contract.mean == (0.5,) * 3


def test_one_output_for_two_labels(tmp_path):
    path = tmp_path / "a.safetensors"
    saved(path, classes=1, about=ABOUT | {"num_classes": "1"})
    assert open_classifier(f"file:{path}").logits(torch.rand(2, 3, 16, 16))[:, 0].eq(0).all()


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({}, "does not say its arch"),
        ({"arch": "small-cnn:4"}, "does not say its labels"),
        (ABOUT | {"labels": "a,b,c"}, "is the number of labels right"),
        (ABOUT | {"arch": "small-cn"}, "unknown architecture 'small-cn': did you mean 'small-cnn'"),
        (ABOUT | {"arch": "timm:resnet188"}, "unknown timm model"),
        (ABOUT | {"arch": "timm:test_resnet"}, "lacks .* another architecture"),
        (ABOUT | {"arch": "small-cnn:x"}, "the width is a number"),
        (ABOUT | {"mean": "dark"}, "cannot be read"),
        (ABOUT | {"labels": "3"}, "must be a list"),
    ],
)
def test_files_that_say_something_else_than_they_are(tmp_path, about, words):
    saved(tmp_path / "a.safetensors", about=about)
    refused(f"file:{tmp_path / 'a.safetensors'}", words)


def test_damaged_files(tmp_path):
    path = tmp_path / "a.safetensors"
    saved(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not weights at all"):
        path.write_bytes(content)
        refused(f"file:{path}", "not a whole safetensors file")
    refused(f"file:{tmp_path}", "no config.json")
    refused(f"file:{tmp_path / 'none.safetensors'}", "does not exist", MissingError)
    (tmp_path / "a.json").write_text("{")
    path.write_bytes(whole)
    refused(f"file:{path}", "not JSON")
    refused(f"file:{path}?lables=a", "did you mean 'labels'")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".bin", ".ckpt"])
def test_pickles_are_refused_with_a_command_that_converts_them(tmp_path, suffix, monkeypatch):
    module = saved(tmp_path / "unused.safetensors")
    path = tmp_path / f"a{suffix}"
    torch.save(module.state_dict(), path)
    message = refused(f"file:{path}", "convert it: python -c")
    monkeypatch.chdir(tmp_path)
    exec(message.partition('python -c "')[2].rpartition('"')[0], {})
    assert open_classifier("file:a.safetensors?arch=small-cnn:4").labels == ("cat", "dog")


def refused(uri, words, kind=UsageError):
    with pytest.raises(kind, match=words) as caught:
        open_classifier(uri)
    assert "\n" not in str(caught.value)
    return str(caught.value)
