"""Units over many images: tables, top images, where they look; pictures of words from their own noises."""

import numpy as np
import pytest
import torch
from torch import nn

from counterlens.core.classifiers.classifier import Classifier
from counterlens.core.classifiers.preprocessing import Preprocessing
from counterlens.core.classifiers.unit_table import attribution, measured, words_by_activation
from counterlens.core.classifiers.units import unit_activations
from counterlens.core.errors import UsageError
from counterlens.core.plugin.registry import load_registry
from counterlens.core.workflows.sample import generate

torch.set_num_threads(1)
REGISTRY = load_registry(third_party=False)


class Corner(nn.Module):
    """Unit 0 is the mean red of the upper left quarter, unit 1 that of the lower right; linear in the picture."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        self.conv.weight.data = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]])[:, :, None, None]
        self.mix = nn.Identity()
        self.head = nn.Linear(2, 2, bias=False)
        self.head.weight.data = torch.eye(2)

    def forward(self, x):
        h = self.conv(x)
        units = torch.stack([h[:, 0, :4, :4].mean((1, 2)), h[:, 1, 4:, 4:].mean((1, 2))], 1)
        return self.head(self.mix(units))


@pytest.fixture
def corner():
    return Classifier.of(Corner(), Preprocessing(labels=("a", "b"), size=(8, 8)), "test:corner")


def picture(left, right):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, :4, 0], pixels[4:, 4:, 0] = left, right
    return pixels


PICTURES = [("p", "x", picture(255, 0)), ("q", "y", picture(51, 255)), ("r", "x", picture(102, 102))]


def test_values_go_with_their_names_whatever_the_order(corner):
    """C14: one of two loaders left a permutation of the labels out."""
    table, turned = measured(corner, PICTURES), measured(corner, PICTURES[::-1], batch=1)
    torch.testing.assert_close(table.values, torch.tensor([[1, 0], [0.2, 1], [0.4, 0.4]]), atol=1e-6, rtol=0)
    of = {name: (label, row) for name, label, row in zip(turned.names, turned.labels, turned.values, strict=True)}
    for name, label, row in zip(table.names, table.labels, table.values, strict=True):
        assert of[name][0] == label
        torch.testing.assert_close(of[name][1], row)
    assert [table.names[k] for k in table.top(0, 2)] == ["p", "r"]
    assert table.summary(0)["class"] == "x" and table.summary(1)["class"] == "y"
    assert table.summary(1, 1)["top"] == [{"image": "q", "label": "y", "activation": 1.0}]


def test_pictures_of_several_sizes(corner):
    larger = np.kron(PICTURES[0][2], np.ones((2, 2, 1), np.uint8))
    table = measured(corner, [PICTURES[0], ("large", "x", larger), PICTURES[1]])
    torch.testing.assert_close(table.values[1], table.values[0], atol=0.1, rtol=0)


def test_unknown_layers_and_units_are_listed(corner):
    with pytest.raises(UsageError, match=r"unknown layer 'cnv': did you mean 'conv'\? known: conv, head, mix, penult"):
        measured(corner, PICTURES, "cnv")
    with pytest.raises(UsageError, match=r"layer 'conv' has units 0 to 1, not 2"):
        measured(corner, PICTURES, "conv").check([0, 2])
    with pytest.raises(UsageError, match="no picture"):
        measured(corner, [])


@pytest.mark.parametrize("layer", ["penultimate", "mix"])
def test_where_a_unit_looks_is_gradient_times_activation(corner, layer):
    """HiResCAM by hand: the gradient of a quarter's mean is 1/16 there and 0 elsewhere; scaled to its largest."""
    images = torch.from_numpy(np.stack([p for _, _, p in PICTURES])).permute(0, 3, 1, 2) / 255
    maps = attribution(corner, images, 0, layer)
    assert maps.shape == (3, 1, 8, 8)
    wanted = torch.zeros(8, 8)
    wanted[:4, :4] = 1
    for k in range(3):
        torch.testing.assert_close(maps[k, 0], wanted)
    assert attribution(corner, images[:1], 1, layer).abs().max() == 0, "nothing speaks for it"


def test_a_table_is_a_file_of_safetensors(corner, tmp_path):
    from safetensors import safe_open

    measured(corner, PICTURES).save(tmp_path / "a" / "t.safetensors")
    with safe_open(tmp_path / "a" / "t.safetensors", "pt") as file:
        assert file.get_tensor("activations").shape == (3, 2) and file.metadata()["names"] == '["p", "q", "r"]'


def test_words_are_ranked_by_the_mean_and_not_by_the_best():
    rows = words_by_activation({"a": [0.0, 9.0], "b": [5.0, 5.0], "c": [5.0, 5.0]})
    assert [(row["word"], row["activation"], row["n"]) for row in rows] == [("b", 5.0, 2), ("c", 5.0, 2), ("a", 4.5, 2)]


def test_the_same_number_is_the_same_noise_in_any_batch():
    from counterlens.core.models.pool import Key

    folder = REGISTRY.domain("shapes").models()["stable-diffusion"]
    pipeline = REGISTRY.family("stable-diffusion").load(Key(str(folder)))
    how = (REGISTRY.make("combiner", "cfg scale=2"), 4, 0)
    both = generate(pipeline, ["a kiki", "a bouba", "a kiki"], [0, 0, 1], *how, 8)
    assert both.shape == (3, 3, 32, 32) and both.min() >= 0 and both.max() <= 1
    torch.testing.assert_close(generate(pipeline, ["a kiki"], [1], *how, 8), both[2:], atol=2 / 255, rtol=0)
    assert (both[0] - both[1]).abs().mean() < (both[0] - both[2]).abs().mean(), "words differ less than noises"


def test_listening_is_differentiable(corner):
    x = torch.rand(2, 3, 8, 8, requires_grad=True)
    unit_activations(corner, x, "mix")[1][:, 0].sum().backward()
    assert x.grad[:, 0, :4, :4].min() > 0 and x.grad[:, 1:].abs().max() == 0
