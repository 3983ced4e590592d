"""Noise and adversarial pictures are odd or fragile, real images are neither; on the embedded shapes."""

import math

import pytest
import torch

from counterlens.core.classifiers.features import Features
from counterlens.core.metrics.context import Context
from counterlens.core.metrics.metric import CounterfactualPair
from counterlens.core.metrics.real_images import Neighbourhood, RealImages
from counterlens.plugins.metrics.network.flip_robustness import handled

COUNT = 12


@pytest.fixture(scope="module")
def shapes(registry):
    """A context of the domain, and test images [N,3,64,64] of kikis."""
    domain = registry.domain("shapes")
    context = Context(registry, classifier_uri=domain.classifier, judge_uri=domain.judge, domain_name="shapes")
    found = [s for s in (domain.sample(k) for k in range(60)) if s.label == "kiki"][:COUNT]
    return context, torch.stack([torch.from_numpy(s.pixels).permute(2, 0, 1).float() / 255 for s in found])


def pairs(pictures, target="kiki"):
    record = {"target": target, "flipped": True, "digest": "x"}
    return [CounterfactualPair(record, picture, picture) for picture in pictures]


def adversarial(context, pictures, steps=40, step=2 / 255, most=24 / 255):
    """Kikis that the classifier takes for boubas, though hardly a pixel changed."""
    target = context.classifier.labels.index("bouba")
    x = pictures.clone()
    for _ in range(steps):
        x.requires_grad_()
        logits = context.classifier.logits(x)
        (g,) = torch.autograd.grad((logits[:, target] - logits[:, 1 - target]).sum(), x)
        x = (x.detach() + step * g.sign()).clamp(pictures - most, pictures + most).clamp(0, 1)
    return x


def test_real_images_are_plausible_and_noise_is_not(shapes, measure):
    context, kikis = shapes
    real = measure("plausibility", pairs(kikis), context=context)
    noise = measure("plausibility", pairs(torch.rand(4, 3, 64, 64)), context=context)
    assert sum(real) / len(real) > 0.2 and max(noise) <= 0.01
    assert sum(measure("plausible", pairs(kikis), context=context)) >= 0.75 * COUNT
    assert sum(measure("plausible", pairs(torch.rand(4, 3, 64, 64)), context=context)) == 0


def test_an_image_of_the_other_class_is_odd_in_this_one(shapes, measure):
    context, kikis = shapes
    assert max(measure("plausibility", pairs(kikis, "bouba"), context=context)) < 0.2


def test_an_adversarial_flip_is_odd_and_does_not_hold(shapes, measure):
    context, kikis = shapes
    wrecked = adversarial(context, kikis)
    fooled = context.classifier.evaluate(wrecked).argmax(1) == context.classifier.labels.index("bouba")
    assert fooled.float().mean() > 0.4
    flips = pairs(wrecked[fooled], "bouba")
    boubas = measure("plausibility", pairs(kikis, "kiki"), context=context)  # as typical as real images are
    odd = measure("plausibility", flips, context=context)
    assert sum(odd) / len(odd) < 0.5 * sum(boubas) / len(boubas)
    held = measure("flip_robustness", flips, context=context)
    real = measure("flip_robustness", pairs(kikis), context=context)
    assert sum(real) / len(real) > 0.9 > sum(held) / len(held)


def test_what_cannot_be_said_is_not_a_number(shapes, measure):
    context, kikis = shapes
    assert math.isnan(measure("plausibility", pairs(kikis[:1], "square"), context=context)[0])
    record = {"target": "kiki", "flipped": False, "digest": "x", "failure": "x"}
    failed = [CounterfactualPair(record, kikis[0], None)]
    assert math.isnan(measure("plausibility", failed, context=context)[0])
    assert measure("plausible", failed, context=context) == [0.0]
    assert measure("flip_robustness", failed, context=context) == [None]


def test_without_labelled_images_it_says_what_brings_them(registry):
    context = Context(registry, judge_uri="file:x")
    assert "--data" in registry.make("metric", "plausibility").missing(context)


def test_the_share_is_counted_by_hand():
    line = torch.arange(10.0)[:, None]  # neighbours at distance 1 and 2; the ends are further from theirs
    real = Neighbourhood.of(line, k=2)
    assert real.own.tolist() == [1.5] + [1.0] * 8 + [1.5]
    near, far = real.plausibility(torch.tensor([[4.5], [100.0]])).tolist()
    assert near == 1.0 and far == pytest.approx(1 / 11)
    assert real.plausibility(line[4:5])[0] == 1.0  # itself is not its own neighbour


def test_classes_without_enough_images_have_no_neighbourhood(registry):
    data = registry.open_dataset("domain:shapes?split=train&first=4")
    features = Features("sum", lambda x: x.flatten(2).mean(2))
    reals = RealImages(data, features, (64, 64))
    assert reals.of("nothing") is None
    assert reals.plausibility([torch.zeros(3, 64, 64)], ["nothing"]) == [(None, 0)]


def test_pictures_are_handled_in_sixteen_ways_the_same_each_time():
    picture = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))
    once, again = handled(picture), handled(picture)
    assert once.shape == (16, 3, 32, 32) and torch.equal(once, again)
    assert torch.equal(once[0][:, :, :-1], picture[:, :, 1:])
    assert ((once - picture).abs().flatten(1).amax(1) > 0).all()
