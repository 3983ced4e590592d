"""What tests of several kinds of pieces share."""

from contextlib import ExitStack

import pytest

from counterlens.core.engine.prepare import prepare
from counterlens.core.engine.request import Request
from counterlens.core.engine.session import Session
from counterlens.core.models.pool import Pool
from counterlens.core.plugin.registry import load_registry

REGISTRY, POOL = load_registry(third_party=False), Pool()


@pytest.fixture
def problem_of():
    """``problem_of(0, 1, method=…, model=…)``: a problem of these images of the embedded shapes."""
    with ExitStack() as stack:

        def make(*numbers, **options):
            request = Request(images=tuple(f"shapes:{i}" for i in numbers or (0,)), **options)
            prepared = prepare(request, REGISTRY)
            desk, ready = Session(REGISTRY, POOL).desk(stack, prepared)
            return desk.problem(ready)

        yield make
