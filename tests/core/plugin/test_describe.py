"""Options in words."""

from typing import ClassVar, Literal

import pytest
from pydantic import Field

from counterlens.core.plugin import describe
from counterlens.core.plugin.registry import KINDS, load_registry
from counterlens.core.problem.method_pieces import Editor


class Everything(Editor):
    """First line.

    Second.
    """

    name: ClassVar[str] = "everything"
    needed: int
    share: float = Field(0.5, ge=0, lt=1, description="how much")
    where: Literal["pixel", "latent"] = "pixel"
    steps: tuple[int, ...] = (1, 2)
    pair: tuple[int, str] = (1, "a")
    maybe: float | None = None
    on: bool = True


def options():
    return {one["name"]: one for one in describe.piece(Everything, "here")["options"]}


def test_a_piece():
    found = describe.piece(Everything, "here")
    assert (found["kind"], found["name"], found["summary"], found["origin"]) == (
        "editor",
        "everything",
        "First line.",
        "here",
    )


@pytest.mark.parametrize(
    ("name", "kind", "default"),
    [
        ("share", "float", "0.5"),
        ("where", "pixel|latent", "pixel"),
        ("steps", "int,…", "1,2"),
        ("pair", "int,str", "1,a"),
        ("maybe", "float|none", "none"),
        ("on", "bool", "true"),
        ("needed", "int", None),
    ],
)
def test_types_and_defaults(name, kind, default):
    assert (options()[name]["type"], options()[name]["default"]) == (kind, default)


def test_ranges_and_help():
    assert options()["share"]["range"] == "≥ 0, < 1"
    assert options()["share"]["help"] == "how much"
    assert options()["needed"]["required"]


def test_every_option_of_every_piece_is_explained():
    registry = load_registry(third_party=False)
    for one in describe.pieces(registry, tuple(KINDS)):
        assert one["summary"], one["name"]
        for option in one["options"]:
            assert option["help"], f"{one['kind']} {one['name']}: {option['name']} has no description"


def test_every_metric_can_be_made_without_options():
    """What is left to be given is said by ``missing``, so that all of them can be listed."""
    registry = load_registry(third_party=False)
    for name in registry.entries["metric"]:
        assert registry.make("metric", name).name == name
