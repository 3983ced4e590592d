"""Walk a method top to bottom before any weight is loaded: does everyone get what it needs?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from counterlens.core.errors import PlanError
from counterlens.core.pieces.capabilities import WORDS
from counterlens.core.pieces.catalogue import Catalogue
from counterlens.core.problem.method import Composition


@dataclass(frozen=True)
class PlanRow:
    """One piece of a plan: what it needs and gives."""

    kind: str
    name: str
    options: dict[str, Any]
    needs: tuple[str, ...]
    gives: tuple[str, ...]


def demands(composition: Composition, given: Iterable[str]) -> dict[str, str]:
    """What the pieces lack with what is ``given``: {word: which piece needs it}, in the order of the method."""
    have, lacking = set(given), dict[str, str]()
    for piece in composition.pieces():
        for word in sorted(piece.wanted() - have):
            lacking.setdefault(word, f"method {composition.method.name!r}: {piece.kind} {piece.name!r}")
        have |= piece.gives
    return lacking


def plan(composition: Composition, catalogue: Catalogue, family: str, given: Iterable[str]) -> list[PlanRow]:
    """The rows of a method that works on ``family`` with what is ``given`` (family's and classifier's words).

    Raises PlanError at the first piece that lacks something: what is needed, who gives it, which families would do.
    """
    for word, who in demands(composition, given).items():
        raise PlanError(complaint(who, word, catalogue, family))
    return [
        PlanRow(
            kind=piece.kind,
            name=piece.name,
            options=piece.model_dump(),
            needs=tuple(sorted(piece.wanted())),
            gives=tuple(sorted(piece.gives)),
        )
        for piece in composition.pieces()
    ]


def complaint(who: str, word: str, catalogue: Catalogue, family: str) -> str:
    """What to do about a word that ``who`` needs and this family does not give."""
    families = [name for name, cls in catalogue.entries_of("family").items() if word in cls.gives]
    givers = [
        f"{kind} {name}"
        for kind in ("inverter", "combiner", "editor", "guidance", "masker", "captioner")
        for name, cls in catalogue.entries_of(kind).items()
        if word in cls.gives
    ]
    if word == "gradient":
        hint = "the classifier is a black box: use a method that only asks it, or a differentiable classifier"
    elif families:
        hint = f"{family} does not; families that do: {', '.join(families)}"
    else:
        hint = f"given by: {', '.join(givers)}" if givers else "nothing installed gives it"
    return f"{who} needs {word!r} ({WORDS[word]}); {hint}"
