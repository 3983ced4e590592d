"""Options of pieces, read from text."""

from typing import ClassVar

import pytest
from pydantic import Field

from counterlens.core.errors import UsageError
from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.core.plugin.registry import load_registry
from counterlens.core.problem.method_pieces import Editor


class Blur(Editor):
    """Blur what flows."""

    name: ClassVar[str] = "blur"
    radius: float = Field(1.0, description="in pixels", gt=0)
    sizes: tuple[int, ...] = Field((1, 2), description="several")
    maybe: tuple[float, ...] | None = None


class Brings:
    def __init__(self, *editors):
        self.editors = editors

    @hookimpl
    def counterlens_editors(self):
        return self.editors


def with_plugins(**plugins):
    return load_registry(third_party=False, extra=plugins)


def test_options_are_read_as_their_fields_types():
    registry = with_plugins(mine=Brings(Blur))
    piece = registry.make("editor", "blur radius=2.5 sizes=3,4,5 maybe=0.5")
    assert (piece.radius, piece.sizes, piece.maybe) == (2.5, (3, 4, 5), (0.5,))
    assert registry.make("editor", "blur sizes=").sizes == ()


@pytest.mark.parametrize("text", ["blur radius=x", "blur radius=0", "blur sizes=1,a", "blur radius", "blur 'x", ""])
def test_bad_options_are_one_line(text):
    registry = with_plugins(mine=Brings(Blur))
    with pytest.raises(UsageError) as caught:
        registry.make("editor", text)
    assert len(str(caught.value).splitlines()) == 1
