"""Single units of a classifier, by layer."""

import pytest
import torch

from counterlens.core.classifiers.classifier import Classifier
from counterlens.core.classifiers.preprocessing import Preprocessing
from counterlens.core.classifiers.units import PENULTIMATE, check_unit, layers, unit_activations, units
from counterlens.core.errors import PlanError, UsageError


def small():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(5, 2),
    )  # fmt: skip
    return Classifier.of(net, Preprocessing(size=(8, 8), labels=("a", "b")), "python:small")


def test_penultimate_is_what_the_last_linear_layer_sees():
    c, x = small(), torch.rand(3, 3, 8, 8)
    logits, a = unit_activations(c, x)
    head = c.modules["classifier"][4]
    assert a.shape == (3, 5) and torch.allclose(head(a), logits, atol=1e-6)


def test_a_convolution_is_averaged_over_places():
    c, x = small(), torch.rand(2, 3, 8, 8)
    _, a = unit_activations(c, x, "0")
    want = c.modules["classifier"][0](c.contract.prepare(x)).mean((2, 3))
    assert torch.allclose(a, want, atol=1e-6)


def test_units_of_tokens_are_means_over_tokens():
    h = torch.arange(12.0).view(1, 3, 4)
    assert torch.equal(units(h), torch.tensor([[4.0, 5.0, 6.0, 7.0]]))


def test_an_unknown_layer_lists_all_of_them():
    c = small()
    with pytest.raises(UsageError, match=r"unknown layer 'fc'.*0, 1, 2, 3, 4, penultimate"):
        unit_activations(c, torch.rand(1, 3, 8, 8), "fc")
    assert list(layers(c)) == ["0", "1", "2", "3", "4"]


def test_an_unknown_unit_says_how_many_there_are():
    with pytest.raises(UsageError, match="units 0 to 4, not 5"):
        check_unit(small(), PENULTIMATE, 5)


def test_hooks_are_gone_after_an_error():
    c = small()
    with pytest.raises(ValueError):
        unit_activations(c, torch.rand(1, 3, 8, 8).requires_grad_().view(3, 1, 8, 8))
    assert not any(module._forward_hooks for module in layers(c).values())


def test_a_black_box_has_no_layers():
    c = Classifier.black_box(
        lambda x: torch.full((len(x), 2), 0.5), Preprocessing(size=(8, 8), labels=("a", "b")), "python:b"
    )
    with pytest.raises(PlanError, match="black box"):
        unit_activations(c, torch.rand(1, 3, 8, 8))
