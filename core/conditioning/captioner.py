"""The kind ``captioner``: a caption for each picture that names its class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.core.pieces.base import Piece

if TYPE_CHECKING:
    import numpy as np


class Captioner(Piece):
    """A caption for each picture that names its class: ``said`` makes them, ``caption`` mends or refuses those that
    do not, before anything expensive is done with them.
    """

    kind: ClassVar[str] = "captioner"
    gives: ClassVar[frozenset[str]] = frozenset({"caption"})
    missing: Literal["repair", "refuse"] = Field("repair", description="a caption that does not name its class")
    grammar: str = Field("", description="spaCy model that finds nouns; its small English one, else rules")

    def said(self, pictures: Sequence[np.ndarray], labels: Sequence[str], device: str = "cpu") -> list[str]:
        """Captions of pictures uint8 [H,W,3], each with the name of its class (as written in the classifier)."""
        raise NotImplementedError

    def caption(
        self, pictures: Sequence[np.ndarray], labels: Sequence[str], device: str = "cpu"
    ) -> list[tuple[str, str]]:
        """(caption, note) of every picture: a note says what had to be mended. UsageError if it is to be refused."""
        from counterlens.core.conditioning.class_names import caption_naming
        from counterlens.core.conditioning.nouns import grammar

        texts, nouns = self.said(pictures, labels, device), grammar(self.grammar)
        pairs = zip(texts, labels, strict=True)
        found = [caption_naming(text, label, nouns, self.missing == "repair") for text, label in pairs]
        return [(text, "; ".join(filter(None, (note, note and nouns.note)))) for text, note in found]
