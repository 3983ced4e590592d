"""A finder run on an embedded or a tiny pipeline."""

import pytest

from counterlens.core.finding import Quest, find
from counterlens.core.registry import load

REGISTRY = load(third_party=False)


@pytest.fixture
def found():
    """``found("random components=2", domain="shapes", …)``: the bank of a finder."""

    def run(text, **how):
        how = {"count": 8, "steps": 4, "batch": 8, **how}
        return find(REGISTRY, REGISTRY.make("finder", text), Quest(**how))

    return run
