import sys

import pytest
import torch

from counterlens.core.errors import PlanError, UsageError
from counterlens.plugins.classifiers import open_classifier

CODE = """
import torch
from torch import nn

def make():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
make.labels, make.size, make.mean, make.std = ["cat", "dog"], 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

class Net(nn.Module):
    labels = ("a", "b", "c")
    def forward(self, x):
        return x.mean((2, 3))

ready = Net()

def ask(images):
    p = images.mean((1, 2, 3))
    return torch.stack([p, 1 - p], 1).numpy()
ask.labels = ("light", "dark")

def scores(images):
    return (images.mean((2, 3)) * 9).tolist()

def single(images):
    return images.mean((1, 2, 3))[:, None]

def broken(images):
    raise ValueError("no such luck")

def nothing():
    return 3
number = 4
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)


def test_a_function_that_makes_a_network(module):
    classifier = open_classifier("python:mine:make")
    assert classifier.differentiable and classifier.contract.size == (8, 8) and classifier.contract.mean == (0.5,) * 3
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    classifier.logits(x)[0, 0].backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["Net", "ready"])
def test_a_class_and_an_instance(module, name):
    assert open_classifier(f"python:mine.py:{name}").labels == ("a", "b", "c")


def test_a_black_box_of_probabilities(module):
    box = open_classifier("python:mine:ask?labels=bright,dim")
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(box.probabilities(x)[:, 0], x.mean((1, 2, 3)))
    assert box.labels == ("bright", "dim")
    with pytest.raises(PlanError, match="black box"):
        box.logits(x.requires_grad_())


def test_a_black_box_of_logits_and_of_one_probability(module):
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(open_classifier("python:mine:scores?labels=a,b,c").logits(x), x.mean((2, 3)) * 9)
    single = open_classifier("python:mine:single?labels=a,b")
    torch.testing.assert_close(single.probabilities(x)[:, 1], x.mean((1, 2, 3)))


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("python:mine", "write python:MODULE:CALLABLE"),
        ("python:nowhere_at_all:x", "cannot import nowhere_at_all"),
        ("python:mine:mak", "did you mean 'make'"),
        ("python:mine:scores", "no labels"),
        ("python:mine:scores?labels=a,b", "3 outputs and 2 labels"),
        ("python:mine:broken?labels=a,b", "fails on an image.*no such luck"),
        ("python:mine:nothing?labels=a,b", "must return a torch.nn.Module"),
        ("python:mine:number?labels=a,b", "cannot be called"),
        ("python:mine:ask?outputs=odds", "unknown outputs 'odds'"),
    ],
)
def test_bad_input(module, uri, words):
    with pytest.raises(UsageError, match=words) as caught:
        open_classifier(uri)
    assert "\n" not in str(caught.value)
