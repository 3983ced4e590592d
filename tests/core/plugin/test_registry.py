"""The door through which plugins come in."""

from types import SimpleNamespace
from typing import ClassVar

import pytest
from pydantic import Field

from counterlens.core.errors import UsageError
from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.core.plugin.registry import BUILT_IN, Registry, load_registry
from counterlens.core.problem.method_pieces import Editor, Regularizer


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


def broken(registry):
    return {plugin.name: plugin.error for plugin in registry.plugins if plugin.error}


def test_built_ins_come_in_whole():
    registry = load_registry(third_party=False)
    assert isinstance(registry, Registry)
    assert broken(registry) == {}
    assert [plugin.name for plugin in registry.plugins] == list(BUILT_IN)
    assert {plugin.distribution for plugin in registry.plugins} == {"counterlens"}


def test_a_plugin_is_found_with_proof():
    registry = with_plugins(mine=Brings(Blur))
    assert registry.get("editor", "blur") is Blur
    assert registry.origins["editor", "blur"] == "mine"
    assert registry.plugins[-1].hooks == ("counterlens_editors",)


def test_a_broken_plugin_is_reported_not_fatal():
    class Broken:
        @hookimpl
        def counterlens_editors(self):
            raise ImportError("no module named 'gone'")

    registry = with_plugins(bad=Broken(), good=Brings(Blur))
    assert broken(registry) == {"bad": "ImportError: no module named 'gone'"}
    assert registry.get("editor", "blur") is Blur


def test_an_entry_point_that_cannot_be_imported(monkeypatch):
    def fails():
        raise ModuleNotFoundError("No module named 'stale'")

    point = SimpleNamespace(name="stale", load=fails, dist=SimpleNamespace(name="stale-plugin", version="1.2"))
    monkeypatch.setattr("counterlens.core.plugin.registry.metadata.entry_points", lambda group: [point])
    plugin = load_registry().plugins[-1]
    assert (plugin.name, plugin.distribution, plugin.version) == ("stale", "stale-plugin", "1.2")
    assert "No module named 'stale'" in plugin.error


def test_a_misspelt_hook_is_an_error():
    class Misspelt:
        @hookimpl
        def counterlens_editor(self):
            return [Blur]

    registry = with_plugins(typo=Misspelt())
    assert "counterlens_editor" in broken(registry)["typo"]
    assert "blur" not in registry.entries["editor"]


def test_a_second_owner_is_named():
    class Other(Blur):
        """Another."""

    registry = with_plugins(first=Brings(Blur), second=Brings(Other))
    assert "both first and second" in broken(registry)["second"]
    assert registry.get("editor", "blur") is Blur


def test_a_plugin_that_fails_brings_nothing():
    class Fresh(Editor):
        """New."""

        name: ClassVar[str] = "fresh"

    registry = with_plugins(first=Brings(Blur), second=Brings(Fresh, Blur))
    assert "fresh" not in registry.entries["editor"]


def test_a_class_of_the_wrong_kind_is_refused():
    class Wrong(Regularizer):
        """Not an editor."""

        name: ClassVar[str] = "wrong"

    assert "is not a Editor" in broken(with_plugins(bad=Brings(Wrong)))["bad"]


def test_unknown_names_get_a_suggestion():
    registry = with_plugins(mine=Brings(Blur))
    with pytest.raises(UsageError, match="unknown editor 'blurr': did you mean 'blur'"):
        registry.make("editor", "blurr")
    with pytest.raises(UsageError, match="unknown option 'radios': did you mean 'radius'"):
        registry.make("editor", "blur radios=2")


def test_two_registries_do_not_share():
    assert "blur" in with_plugins(mine=Brings(Blur)).entries["editor"]
    assert "blur" not in load_registry(third_party=False).entries["editor"]
