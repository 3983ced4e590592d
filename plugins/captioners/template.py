from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator

from counterlens.core.conditioning.captioner import Captioner
from counterlens.core.conditioning.class_names import article, names_of

if TYPE_CHECKING:
    import numpy as np


def filled(template: str, label: str) -> str:
    """A template with a class's name, and its article.

    >>> filled("a photo of {a} {label}", "orange, Citrus_sinensis")
    'a photo of an orange'
    """
    name = names_of(label)[0]
    return template.format(a=article(name), label=name)


def checked(template: str) -> str:
    """The template; ValueError when it has other placeholders than {a} and {label}."""
    try:
        filled(template, "x")
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{template!r} has a placeholder that does not exist ({error}): {{a}}, {{label}}") from None
    return template


class Template(Captioner):
    """The same words for every picture, with its class's name: no network, the weakest caption."""

    name: ClassVar[str] = "template"
    text: str = Field("a photo of {a} {label}", description="{label} is the class's name, {a} its article")

    @field_validator("text")
    @classmethod
    def _checked(cls, value: str) -> str:
        return checked(value)

    def said(self, pictures: Sequence[np.ndarray], labels: Sequence[str], device: str = "cpu") -> list[str]:
        return [filled(self.text, label) for label in labels]
