"""A finder run on an embedded or a tiny pipeline."""

import pytest

from counterlens.core.h_space.job import FindRequest
from counterlens.core.plugin.registry import load_registry
from counterlens.core.workflows.find_directions import find_directions

REGISTRY = load_registry(third_party=False)


@pytest.fixture
def found():
    """``found("random components=2", domain="shapes", …)``: the bank of a finder."""

    def run(text, **how):
        how = {"count": 8, "steps": 4, "batch": 8, **how}
        return find_directions(REGISTRY, REGISTRY.make("finder", text), FindRequest(**how))

    return run
