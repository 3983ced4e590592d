import pytest
import torch
from safetensors.torch import save_file

from counterlens.core.errors import UsageError
from counterlens.plugins.classifiers import architecture, open_classifier


def member(path, labels, seed):
    torch.manual_seed(seed)
    save_file(architecture("small-cnn:4", 2).state_dict(), path, metadata={"arch": "small-cnn:4", "labels": labels})
    return open_classifier(f"file:{path}")


def test_mean_of_probabilities_with_gradient_whatever_the_order_of_labels(tmp_path):
    one = member(tmp_path / "a.safetensors", "cat,dog", 0)
    two = member(tmp_path / "b.safetensors", "dog,cat", 1)
    both = open_classifier(f"ensemble:{tmp_path}")
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    expected = (one.probabilities(x) + two.probabilities(x).flip(1)) / 2
    torch.testing.assert_close(both.probabilities(x), expected)
    torch.testing.assert_close(both.logits(x).exp(), expected)
    both.logits(x)[:, 0].sum().backward()
    assert x.grad.abs().sum() > 0
    assert both.labels == ("cat", "dog") and len(both.modules) == 2 and both.digest != one.digest


def test_members_that_do_not_agree(tmp_path):
    with pytest.raises(UsageError, match=r"no \.safetensors file"):
        open_classifier(f"ensemble:{tmp_path}")
    member(tmp_path / "a.safetensors", "cat,dog", 0)
    member(tmp_path / "b.safetensors", "cat,owl", 1)
    with pytest.raises(UsageError, match=r"b\.safetensors has the labels cat, owl; a\.safetensors has cat, dog"):
        open_classifier(f"ensemble:{tmp_path}")
