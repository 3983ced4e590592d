"""The closed vocabulary of what pieces need and give."""

import pytest

from counterlens.core.pieces.capabilities import WORDS, checked
from counterlens.core.plugin.registry import KINDS, load_registry


def test_a_word_outside_the_vocabulary_is_a_mistake():
    assert checked(["map", "map"], "x") == {"map"}
    with pytest.raises(TypeError, match="editor blur: unknown capability mapp"):
        checked(["mapp"], "editor blur")


def test_pieces_use_words_of_the_vocabulary_alone():
    registry = load_registry(third_party=False)
    used = set()
    for kind in KINDS:
        for cls in registry.entries_of(kind).values():
            used |= {*getattr(cls, "needs", ()), *getattr(cls, "gives", ())}
    assert used - WORDS.keys() == set()
    assert {"map", "text", "judge", "gradient"} <= used
