"""COUT with a classifier whose answers can be worked out by hand."""

import math

import pytest
import torch

from counterlens.core.classifiers.classifier import Classifier
from counterlens.core.classifiers.preprocessing import Preprocessing
from counterlens.core.metrics.context import Context
from counterlens.core.testing.pairs import pair


def brightness(images):
    """p(y) is the share of white."""
    white = images.mean((1, 2, 3))[:, None]
    return torch.cat([1 - white, white], 1)


@pytest.fixture
def context(registry):
    def opened(function):
        contract = Preprocessing(labels=("x", "y"), size=None)
        return Context(registry, classifier_uri="t", opened={"t": Classifier.black_box(function, contract, "t")})

    return opened


def picture(value, size=10):
    return torch.full((3, size, size), float(value))


def test_a_linear_classifier_is_at_zero(measure, context):
    """p(y) rises evenly from 0 to 1: the areas are equal."""
    assert measure("cout", [pair(picture(0), picture(1))], context(brightness)) == pytest.approx([0], abs=1e-6)


def test_the_bounds_are_reached_and_not_passed(measure, context):
    def early(images):
        on = (images.amax((1, 2, 3)) > 0.5).float()[:, None]
        return torch.cat([1 - on, on], 1)

    def late(images):
        on = (images.amin((1, 2, 3)) > 0.5).float()[:, None]
        return torch.cat([1 - on, on], 1)

    one = [pair(picture(0), picture(1))]
    # -1 at the first point and 1 at the other 50, or the reverse: trapezoids of width 1/50
    assert measure("cout", one, context(early)) == pytest.approx([49 / 50], abs=1e-6)
    assert measure("cout", one, context(late)) == pytest.approx([-49 / 50], abs=1e-6)
    assert measure("cout", [pair(picture(0), picture(0))], context(late)) == pytest.approx([-1])


@pytest.mark.parametrize(("size", "bound"), [(128, 1.0179), (256, 1.0194)])
def test_the_legacy_bound(measure, context, size, bound):
    def never(images):
        return torch.tensor([[0.0, 1.0]]).expand(len(images), 2)

    one = [pair(picture(0, size), picture(1, size))]
    assert measure("cout", one, context(never), legacy=True) == pytest.approx([bound], abs=1e-4)
    assert measure("cout", one, context(never)) == pytest.approx([1])
    assert math.isnan(measure("cout", [pair(picture(0, 20), picture(0, 20))], context(never), legacy=True)[0])


def test_the_most_changed_pixels_are_pasted_first(measure, context):
    """The classifier looks at one pixel: the earlier it is pasted, the higher COUT."""

    def corner(images):
        white = images[:, 0, 0, 0][:, None]
        return torch.cat([1 - white, white], 1)

    strong, weak = picture(0.5), picture(0.5)
    strong[:, 0, 0], weak[:, 0, 0] = 1.0, 0.9
    weak[:, 5:] = 1.0  # fifty pixels change more than the one that counts
    first, last = measure("cout", [pair(picture(0.0), strong), pair(picture(0.0), weak, digest="b")], context(corner))
    # p(y) - p(x) runs from -1 to 1 with the first of 50 chunks
    assert first == pytest.approx(49 / 50, abs=1e-6)
    # its chunk is the 26th: -1 before, 0.8 after
    assert last == pytest.approx(-25 / 50 + (0.8 - 1) / 2 / 50 + 24 * 0.8 / 50, abs=1e-6)


def test_the_batch_does_not_matter(measure, context):
    pairs = [
        pair(torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(k)), picture(0.7, 9), digest=str(k))
        for k in range(3)
    ]
    whole = measure("cout", pairs, context(brightness))
    assert whole == pytest.approx([measure("cout", [one], context(brightness))[0] for one in pairs], abs=1e-7)


def test_on_real_counterfactuals_of_shapes(measure, registry):
    """True counterfactuals decide early; a picture that was not changed is near -1."""
    shapes = registry.domain("shapes")
    context = Context(registry, classifier_uri="domain:shapes")
    pairs = []
    for at in range(6):
        sample = shapes.sample(at)
        other = shapes.target_for(sample.label)
        source, truth = (
            torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
            for pixels in (sample.pixels, shapes.truth(at, other))
        )
        pairs += [pair(source, edited, f"{at}", own=sample.label, target=other) for edited in (truth, source)]
    found = measure("cout", pairs, context)
    assert sum(found[::2]) / 6 > 0.3
    assert sum(found[1::2]) / 6 < -0.8
