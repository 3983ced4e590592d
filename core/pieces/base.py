"""The kinds of pieces a plugin can bring. A piece is a frozen pydantic model whose fields are its options.

Field descriptions are the help text; unknown options are errors. A piece holds no state of a run: ``bind``
returns what takes part in the loop (itself, unless it needs tensors of the scene).
This module imports no torch, so that listing pieces is fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

from counterlens.core.pieces.capabilities import checked

if TYPE_CHECKING:
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.data.source_image import SourceImage

Settings = TypeVar("Settings")


class Piece(BaseModel):
    """Base of every piece: a ``name``, what it ``needs`` and ``gives`` (words of core/pieces/capabilities.py).

    ``strength_unit``: what one unit of a record's ``strength`` is when this piece is what a search makes stronger.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: ClassVar[str] = ""
    name: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    strength_unit: ClassVar[str] = ""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        cls.needs = checked(cls.needs, cls.__name__)
        cls.gives = checked(cls.gives, cls.__name__)

    def settings(self, kind: type[Settings], **more: Any) -> Settings:
        """A dataclass filled from the options of the same names and from ``more``, for code that knows no piece."""
        names = [field.name for field in fields(kind) if field.name not in more]  # type: ignore[arg-type]
        return kind(**{name: getattr(self, name) for name in names}, **more)

    def wanted(self) -> frozenset[str]:
        """What this piece needs with these options (some need more with one option than with another)."""
        return self.needs

    def check(self, asked: Sequence[SourceImage]) -> None:
        """Look at files and options before anything is loaded; UsageError says what is wrong."""

    def classifiers(self) -> tuple[str, ...]:
        """URIs of further classifiers that are opened for it, and found in ``scene.resources.others``."""
        return ()

    def meet(self, classifier: Classifier, others: Mapping[str, Classifier]) -> None:
        """Look at the opened classifiers before any pipeline is loaded; UsageError says what does not fit."""

    @classmethod
    def summary(cls) -> str:
        return (cls.__doc__ or "").strip().partition("\n")[0]
