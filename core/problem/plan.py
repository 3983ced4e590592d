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


def plan(composition: Composition, catalogue: Catalogue, family: str, given: Iterable[str]) -> list[PlanRow]:
    """The rows of a method that works on ``family`` with what is ``given`` (family's and classifier's words).

    Raises PlanError at the first piece that lacks something: what is needed, who gives it, which families would do.
    """
    have, table = set(given), []
    for piece in composition.pieces():
        if missing := sorted(piece.wanted() - have):
            raise PlanError(_complaint(piece, missing[0], composition, catalogue, family))
        have |= piece.gives
        table.append(
            PlanRow(
                piece.kind, piece.name, piece.model_dump(), tuple(sorted(piece.wanted())), tuple(sorted(piece.gives))
            )
        )
    return table


def serves(composition: Composition, catalogue: Catalogue, family: str, given: Iterable[str]) -> bool:
    """Whether ``plan`` would succeed."""
    try:
        plan(composition, catalogue, family, given)
    except PlanError:
        return False
    return True


def _complaint(piece: Any, word: str, composition: Composition, catalogue: Catalogue, family: str) -> str:
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
    return f"method {composition.method.name!r}: {piece.kind} {piece.name!r} needs {word!r} ({WORDS[word]}); {hint}"
