"""Metrics over pairs: rows, columns, what is missing."""

from typing import ClassVar

import pytest
import torch

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


class NeedsTruth(Brightness):
    """Needs what is not there."""

    name: ClassVar[str] = "needs_truth"
    needs: ClassVar[frozenset[str]] = frozenset({"truth", "judge"})


def test_rows_are_in_order_whatever_the_sizes(context):
    pairs = [pair("a", 0, 0.5), pair("b", 0, 0.25, size=6), pair("c", 0, 1.0)]
    rows = evaluate([Brightness()], (p for p in pairs), context)
    assert [(row["digest"], row["brightness"]) for row in rows] == [("a", 0.5), ("b", 0.25), ("c", 1.0)]


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
