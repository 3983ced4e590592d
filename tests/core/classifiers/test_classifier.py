import numpy as np
import pytest
import torch
from torch import nn

from counterlens.core.classifiers.classifier import Classifier
from counterlens.core.classifiers.preprocessing import Preprocessing, distinct
from counterlens.core.errors import PlanError, UsageError
from counterlens.core.plugin.registry import load_registry

LABELS = ("cat", "dog", "owl")


def network(classes=3, channels=3):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )


def images(n=2, size=20):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_contract_resizes_with_antialias_and_normalises():
    contract = Preprocessing(LABELS, (5, 10), (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    prepared = contract.prepare(torch.full((2, 3, 20, 20), 0.5))
    assert prepared.shape == (2, 3, 5, 10)
    torch.testing.assert_close(prepared[0, :, 0, 0], torch.tensor([0.0, 0.5, 2 / 3]))
    stripes = torch.zeros(1, 3, 20, 20)
    stripes[..., ::2] = 1
    assert (Preprocessing(LABELS, (20, 5)).prepare(stripes) - 0.5).abs().max() < 0.2  # without antialias: 0 or 1


def test_grey_contract():
    contract = Preprocessing(LABELS, None, (0.5,), (0.5,), channels=1)
    torch.testing.assert_close(contract.prepare(torch.ones(1, 3, 4, 4)), torch.ones(1, 1, 4, 4))
    assert Classifier.of(network(channels=1), contract, "x").logits(images()).shape == (2, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": ("a",)},
        {"labels": ("a", "a")},
        {"mean": (1.0,)},
        {"std": (0.0,) * 3},
        {"size": (0, 4)},
        {"resize": "no"},
    ],
)
def test_contracts_that_do_not_fit_are_refused(wrong):
    with pytest.raises(UsageError):
        Preprocessing(**({"labels": LABELS} | wrong))


def test_logits_are_fp32_and_differentiable_and_the_network_is_frozen():
    classifier = Classifier.of(network(), Preprocessing(LABELS, (16, 16)), "x", dtype=torch.bfloat16)
    x = images().requires_grad_()
    logits = classifier.logits(x)
    assert logits.dtype == torch.float32
    logits[:, 0].sum().backward()
    assert x.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in classifier.modules["classifier"].parameters())


def test_the_gradient_is_right():
    classifier = Classifier.of(network().double(), Preprocessing(LABELS, (6, 6)), "x")
    x, eps = images(1, 8), 1e-2
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    x.requires_grad_()
    (grad,) = torch.autograd.grad(classifier.logits(x)[0, 1], x)
    with torch.no_grad():
        ahead, behind = (classifier.logits(x + s * eps * direction)[0, 1] for s in (1, -1))
    assert abs((ahead - behind).item() / (2 * eps) - (grad * direction).sum().item()) < 1e-3


def test_probabilities_and_chunks():
    classifier = Classifier.of(network(), Preprocessing(LABELS), "x")
    x = images(5)
    torch.testing.assert_close(classifier.evaluate(x, batch=2), classifier.probabilities(x))
    torch.testing.assert_close(classifier.probabilities(x).sum(1), torch.ones(5))


@pytest.mark.parametrize("outputs", ["logits", "probabilities"])
def test_a_single_output_is_two_classes(outputs):
    head = nn.Sequential(network(1), nn.Sigmoid()) if outputs == "probabilities" else network(1)
    classifier = Classifier.of(head, Preprocessing(("no", "yes")), "x", outputs=outputs)
    expected = torch.sigmoid(network(1)(images()))
    torch.testing.assert_close(classifier.probabilities(images())[:, 1:], expected)


def test_a_black_box_has_no_gradient():
    def ask(x):
        brightness = x.mean((1, 2, 3)).numpy()
        return np.stack([brightness, 1 - brightness], 1)

    box = Classifier.black_box(ask, Preprocessing(("light", "dark")), "python:m:ask")
    torch.testing.assert_close(box.probabilities(images())[:, 0], images().mean((1, 2, 3)))
    assert box.gives == {"labels"} and not box.modules
    with pytest.raises(PlanError, match="black box"):
        box.logits(images().requires_grad_())
    with torch.no_grad():
        box.logits(images().requires_grad_())


def test_labels_by_name_case_and_number():
    classifier = Classifier.of(network(), Preprocessing(("Cat", "dog", "0")), "x")
    assert [classifier.label_index(label) for label in ("Cat", "cat", 1, "1", "0")] == [0, 0, 1, 1, 2]
    with pytest.raises(UsageError, match="unknown target 'doog': did you mean 'dog'"):
        classifier.label_index("doog")
    many = Classifier.of(network(50), Preprocessing(tuple(f"breed {i}" for i in range(50))), "x")
    with pytest.raises(UsageError) as caught:
        many.label_index("zebra")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (network(5), "5 outputs and 3 labels"),
        (network(channels=1), "fails on an image of 16x16"),
        (nn.Flatten(0), "must answer"),
    ],
)
def test_a_misfit_shows_when_opened(module, words):
    with pytest.raises(UsageError, match=words):
        Classifier.of(module, Preprocessing(LABELS, (16, 16)), "x")


def test_damaged_numbers_show_when_opened():
    module = network()
    nn.init.constant_(module[4].bias, float("nan"))
    with pytest.raises(UsageError, match="not finite"):
        Classifier.of(module, Preprocessing(LABELS), "x")


def test_digest_follows_weights_and_contract():
    one = Classifier.of(network(), Preprocessing(LABELS), "x").digest
    assert one == Classifier.of(network(), Preprocessing(LABELS), "elsewhere").digest
    assert one != Classifier.of(network(), Preprocessing(LABELS[::-1]), "x").digest
    other = network()
    with torch.no_grad():
        other[0].weight[0, 0, 0, 0] += 1e-3
    assert one != Classifier.of(other, Preprocessing(LABELS), "x").digest


def test_labels_made_distinct():
    assert distinct(["crane", "owl", "crane"]) == ("crane", "owl", "crane (2)")


def test_unknown_schemes_get_a_suggestion():
    registry = load_registry(third_party=False)
    with pytest.raises(UsageError, match="did you mean 'timm'"):
        registry.open_classifier("tim:resnet18")
    with pytest.raises(UsageError, match="no scheme: write file:"):
        registry.open_classifier("a.safetensors")
