"""The seam of metrics: pairs, populations, failures, columns, what is missing."""

import math
from typing import ClassVar

import pytest
import torch

from counterlens.core.classifiers.features import Features, penultimate
from counterlens.core.errors import UsageError
from counterlens.core.metrics.context import Context
from counterlens.core.metrics.evaluate import column_table, evaluate, unavailable
from counterlens.core.metrics.metric import CounterfactualPair, ImageMetric, PictureMetric
from counterlens.core.plugin.registry import load_registry


@pytest.fixture(scope="module")
def registry():
    return load_registry(third_party=False)


@pytest.fixture
def context(registry):
    return Context(registry, batch=2)


def pair(name, source=0.0, edited=1.0, size=4, **record):
    made = None if edited is None else torch.full((3, size, size), edited)
    return CounterfactualPair({"digest": name, **record}, torch.full((3, size, size), source), made)


class Brightness(PictureMetric):
    """Mean change."""

    name: ClassVar[str] = "brightness"

    def compare(self, source, edited, pairs, context):
        return (edited - source).flatten(1).mean(1)


class OfFlipped(Brightness):
    """Mean change of flipped images."""

    name: ClassVar[str] = "of_flipped"
    population: ClassVar[str] = "flipped"


class NeedsTruth(Brightness):
    """Needs what is not there."""

    name: ClassVar[str] = "needs_truth"
    needs: ClassVar[frozenset[str]] = frozenset({"truth", "judge"})


def test_rows_are_in_order_whatever_the_sizes(context):
    pairs = [pair("a", 0, 0.5), pair("b", 0, 0.25, size=6), pair("c", 0, 1.0)]
    rows = evaluate([Brightness()], (p for p in pairs), context)
    assert [(row["digest"], row["brightness"]) for row in rows] == [("a", 0.5), ("b", 0.25), ("c", 1.0)]


def test_failed_is_nan_and_outside_is_none(context):
    pairs = [pair("a", flipped=True), pair("b", edited=None, flipped=False, failure="no"), pair("c", flipped=False)]
    rows = evaluate([Brightness(), OfFlipped()], pairs, context)
    assert [row["failed"] for row in rows] == [False, True, False]
    assert math.isnan(rows[1]["brightness"])
    assert [row["of_flipped"] for row in rows] == [1.0, None, None]


def test_populations():
    right, wrong = pair("a", label="x", source=0.0), pair("b", label="y")
    right = CounterfactualPair({**right.record, "source": "x"}, right.source, right.counterfactual)
    assert (right.correct, wrong.correct, pair("c").correct) == (True, False, None)
    assert [p.within("correct") for p in (right, wrong, pair("c"))] == [True, False, False]
    assert not pair("d", edited=None, flipped=True).within("flipped")


def test_a_pair_of_different_sizes_is_refused():
    with pytest.raises(UsageError, match=r"the counterfactual is \[3, 5, 5\]"):
        CounterfactualPair({"digest": "a"}, torch.zeros(3, 4, 4), torch.zeros(3, 5, 5))


def test_what_is_missing_is_said_before_anything_runs(registry, context):
    found = unavailable([Brightness(), NeedsTruth()], context)
    assert list(found) == ["needs_truth"]
    assert "no judge" in found["needs_truth"] and "true counterfactuals" in found["needs_truth"]
    whole = Context(registry, judge_uri="domain:shapes-judge", domain_name="shapes", classifier_uri="domain:shapes")
    assert unavailable([NeedsTruth()], whole) == {}
    # the truth changes the shape: it is none for a classifier that decides by something else
    whole.classifier_uri = "domain:shapes-shortcut"
    assert list(unavailable([NeedsTruth()], whole)) == ["needs_truth"]
    assert "true counterfactuals" in unavailable([NeedsTruth()], Context(registry, domain_name="digits"))["needs_truth"]


def test_two_metrics_of_one_column_are_refused(context):
    with pytest.raises(UsageError, match="two metrics write 'brightness'"):
        column_table([Brightness(), Brightness()], context)


def test_a_column_that_was_not_announced_is_an_error(context):
    class Liar(ImageMetric):
        """Says another name."""

        name: ClassVar[str] = "liar"

        def measure(self, pairs, context):
            return {"truth": [1.0] * len(pairs)}

    with pytest.raises(TypeError, match="does not announce"):
        evaluate([Liar()], [pair("a")], context)


def test_classifiers_are_opened_once(registry):
    context = Context(registry, judge_uri="domain:shapes-judge")
    assert context.judge is context.judge
    assert context.features("judge") is context.features("judge")


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
