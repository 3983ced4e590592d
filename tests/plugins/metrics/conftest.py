"""Pairs of small pictures with hand-made records."""

import pytest
import torch

from counterlens.core.measuring import Context
from counterlens.core.metrics import Pair, evaluate
from counterlens.core.registry import build, load


@pytest.fixture(scope="session")
def registry():
    return load(third_party=False)


@pytest.fixture
def context(registry):
    return Context(registry, regions=True, several=True)


def grey(value, size=4):
    return torch.full((3, size, size), float(value))


def pair(source=None, edited=None, digest="a", truth=None, region=None, others=(), own="x", **record):
    source = grey(0.0) if source is None else source
    base = {"digest": digest, "image": digest, "source": own, "target": "y", "flipped": True, "failure": None}
    return Pair({**base, **record}, source, edited, truth, region=region, others=others)


def failed(digest="f", source=None, **record):
    return pair(source, None, digest, flipped=False, failure="it broke", **record)


@pytest.fixture
def measure(registry, context):
    """``measure("l1", pairs, option=…)``: the column's values (or {column: values} when there are several)."""

    def measure(name, pairs, context=context, **options):
        metric = build(registry.get("metric", name), options)
        rows = evaluate([metric], pairs, context)
        found = {column: [row[column] for row in rows] for column in metric.names(context)}
        return found if len(found) > 1 else next(iter(found.values()))

    return measure
