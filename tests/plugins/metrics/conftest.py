"""A metric by name on hand-made pairs."""

import pytest

from counterlens.core.metrics.context import Context
from counterlens.core.metrics.evaluate import evaluate
from counterlens.core.pieces.options import build
from counterlens.core.plugin.registry import load_registry


@pytest.fixture(scope="session")
def registry():
    return load_registry(third_party=False)


@pytest.fixture
def context(registry):
    return Context(registry, regions=True, several=True)


@pytest.fixture
def measure(registry, context):
    """``measure("l1", pairs, option=…)``: the column's values (or {column: values} when there are several)."""

    def measure(name, pairs, context=context, **options):
        metric = build(registry.get("metric", name), options)
        rows = evaluate([metric], pairs, context)
        found = {column: [row[column] for row in rows] for column in metric.names(context)}
        return found if len(found) > 1 else next(iter(found.values()))

    return measure
