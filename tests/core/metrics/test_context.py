"""What metrics share is opened once."""

import pytest

from counterlens.core.metrics.context import Context
from counterlens.core.plugin.registry import load_registry


@pytest.fixture(scope="module")
def registry():
    return load_registry(third_party=False)


@pytest.fixture
def context(registry):
    return Context(registry, batch=2)


def test_classifiers_are_opened_once(registry):
    context = Context(registry, judge_uri="domain:shapes-judge")
    assert context.judge is context.judge
    assert context.features("judge") is context.features("judge")
