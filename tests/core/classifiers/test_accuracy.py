"""The check of the contract, on a network that is right by construction."""

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from counterlens.core.classifiers.accuracy import checked_accuracy, measure_accuracy
from counterlens.core.classifiers.classifier import Classifier
from counterlens.core.classifiers.preprocessing import Preprocessing
from counterlens.core.errors import UsageError

LABELS = ("red", "green", "blue")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Reddish(nn.Module):
    """Expects images normalised with ``mean`` and ``std``; the class is how red the image is."""

    def __init__(self, mean=(0.0,) * 3, std=(1.0,) * 3):
        super().__init__()
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)

    def forward(self, x):
        pixels = (x.mean((2, 3)) * self.std + self.mean)[:, :, None]
        near = (-50 * (pixels - torch.tensor([0.2, 0.5, 0.8])) ** 2)[:, 0].exp()
        return (near + 0.01).log()  # a red of 0.2, 0.5, 0.8 is class 0, 1, 2; one far from all of them is unsure


def data(n=90, order=(0, 1, 2)):
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(n) % 3
    x = torch.rand(n, 3, 8, 8, generator=generator) * 0.1
    x[:, 0] += torch.tensor([0.15, 0.45, 0.75])[truth][:, None, None]
    return x, [LABELS[order[k]] for k in truth.tolist()]


def classifier(module, **contract):
    return Classifier.of(module, Preprocessing(LABELS, **contract), "file:x")


def test_a_right_contract_passes():
    score = checked_accuracy(classifier(Reddish(MEAN, STD), mean=MEAN, std=STD), *data())
    assert (score.n, score.correct, score.accuracy, score.note) == (90, 90, 1.0, "")
    assert score.chance == pytest.approx(1 / 3)
    assert score.per_class == dict.fromkeys(LABELS, 1.0)
    assert str(score) == "accuracy 100 % (chance 33 %, 90 images)"


@pytest.mark.parametrize(
    ("module", "contract", "words"),
    [
        (Reddish(), {"mean": MEAN, "std": STD}, "normalised twice.*mean=0 and std=1"),
        (Reddish(MEAN, STD), {}, "mean and std of ImageNet"),
        (Reddish((0.5,) * 3, (0.5,) * 3), {"mean": (-0.3,) * 3, "std": (0.3,) * 3}, "mean=0.5 and std=0.5"),
        (Reddish(std=(1 / 255,) * 3), {}, r"\[0,255\]"),
    ],
)
def test_wrong_normalisation_is_named(module, contract, words):
    wrong = classifier(module, **contract)
    assert measure_accuracy(wrong, *data()).accuracy < 0.7
    noticed = checked_accuracy(wrong, *data(), force=True)
    assert re.search(words, noticed.note)


def test_double_normalisation_near_chance_is_refused():
    wrong = classifier(Reddish(), mean=(0.9,) * 3, std=(0.1,) * 3)  # everything looks dark: one class
    with pytest.raises(UsageError, match=r"chance 33 %.*it would be 100 %.*normalised twice.*--force"):
        checked_accuracy(wrong, *data())
    assert "normalised twice" in checked_accuracy(wrong, *data(), force=True).note


def test_bgr_is_named():
    x, truth = data()
    with pytest.raises(UsageError, match="BGR"):
        checked_accuracy(classifier(Reddish()), x.flip(1), truth)


def test_label_order_is_named():
    with pytest.raises(UsageError, match="in another order it would be 100 %: give labels=green,blue,red"):
        checked_accuracy(classifier(Reddish()), *data(order=(1, 2, 0)))
    x, truth = data(order=(2, 1, 0))  # the network's outputs are blue, green, red: one of three is right by luck
    with pytest.raises(UsageError, match="in alphabetical order it would be 100 %: give labels=blue,green,red"):
        checked_accuracy(classifier(Reddish()), x, truth)


def test_two_swapped_labels_are_noticed_though_above_chance():
    x, truth = data()
    many = Classifier.of(Reddish(), Preprocessing(("green", "red", "blue")), "x")
    keep = [i for i in range(90) if truth[i] == "blue" or i < 36]
    score = checked_accuracy(many, x[keep], [truth[i] for i in keep])
    assert 0.5 < score.accuracy < 0.9
    assert "labels=red,green,blue" in score.note


def test_noise_is_refused_without_a_false_reason():
    x, _ = data()
    guesses = [LABELS[i] for i in torch.randint(3, (90,), generator=torch.Generator().manual_seed(3)).tolist()]
    with pytest.raises(UsageError) as caught:
        checked_accuracy(classifier(Reddish()), x, guesses)
    assert "would be" not in str(caught.value) and "check labels" in str(caught.value)
    assert checked_accuracy(classifier(Reddish()), x, guesses, force=True).note


def test_a_constant_classifier_is_near_chance_however_uneven_the_classes():
    x, truth = data()
    keep = [i for i in range(90) if truth[i] == "red" or i < 12]
    constant = replace(classifier(Reddish()), module=lambda images: torch.eye(3)[0].expand(len(images), 3))
    score = measure_accuracy(constant, x[keep], [truth[i] for i in keep])
    assert score.accuracy > 0.7 and score.near_chance


def test_one_class_only_can_be_right():
    x, truth = data()
    score = checked_accuracy(classifier(Reddish()), x[::3], truth[::3])
    assert score.accuracy == 1 and score.chance == pytest.approx(1 / 3)


def test_labels_must_match_the_images():
    with pytest.raises(UsageError, match="90 images, 0 labels"):
        measure_accuracy(classifier(Reddish()), data()[0], [])
    with pytest.raises(UsageError, match="unknown target"):
        measure_accuracy(classifier(Reddish()), data()[0], ["pink"] * 90)
