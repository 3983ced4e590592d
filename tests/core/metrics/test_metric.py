"""The seam of metrics: pairs, populations, failures, columns, what is missing."""

import math
from typing import ClassVar

import pytest
import torch

from counterlens.core.errors import UsageError
from counterlens.core.metrics.context import Context
from counterlens.core.metrics.evaluate import evaluate
from counterlens.core.metrics.metric import CounterfactualPair, PictureMetric
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
