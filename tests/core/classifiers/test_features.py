"""Features of classifiers."""

import pytest
import torch

from counterlens.core.classifiers.features import Features, penultimate
from counterlens.core.metrics.context import Context
from counterlens.core.plugin.registry import load_registry


@pytest.fixture(scope="module")
def registry():
    return load_registry(third_party=False)


@pytest.fixture
def context(registry):
    return Context(registry, batch=2)


def test_features_of_a_classifier_enter_its_last_layer(registry):
    context = Context(registry, classifier_uri="domain:shapes", judge_uri="domain:shapes-judge")
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = context.features("judge").of(images)
    net = context.judge.modules["classifier"]
    assert torch.allclose(found, net.features(images), atol=1e-6)
    assert torch.equal(
        context.classifier.modules["classifier"].head(penultimate(context.classifier)(images)),
        context.classifier.logits(images),
    )


def test_each_picture_is_looked_at_once():
    asked = []

    def extract(images):
        asked.append(len(images))
        return images.mean((2, 3))

    features = Features("mean", extract, batch=2)
    pictures = [torch.full((3, 4, 4), v) for v in (0.1, 0.2, 0.3)] + [torch.full((3, 6, 6), 0.4)]
    first = features.of(pictures)
    assert torch.allclose(first[:, 0], torch.tensor([0.1, 0.2, 0.3, 0.4]))
    assert torch.equal(features.of(reversed(pictures)), first.flip(0))
    assert sum(asked) == 4
