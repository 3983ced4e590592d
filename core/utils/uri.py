"""URIs of classifiers and data: ``SCHEME:PATH?option=value&option=value``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from counterlens.core.errors import UsageError, unknown

# Two letters at least: the C: of a Windows path is not a scheme.
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
QUERY = re.compile(r"(.*)\?((?:[A-Za-z_-]+=[^&]*)(?:&[A-Za-z_-]+=[^&]*)*)", re.DOTALL)


@dataclass(frozen=True)
class Uri:
    """A URI in parts. ``options`` are raw; read them with ``text``, ``names`` and ``numbers``, which decode ``%2C``."""

    scheme: str
    path: str
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        head = f"{self.scheme}:{self.path}" if self.scheme else self.path
        return head + ("?" + "&".join(f"{key}={value}" for key, value in self.options.items()) if self.options else "")

    def text(self, key: str, default: str = "") -> str:
        """The option as text."""
        return unquote(self.options[key]) if key in self.options else default

    def names(self, key: str) -> tuple[str, ...]:
        """The option as a list split at commas (``%2C`` is a comma inside a name); empty when not given."""
        parts = self.options.get(key, "").split(",")
        return tuple(unquote(part.strip()) for part in parts if part.strip())

    def numbers(self, key: str) -> tuple[float, ...]:
        """The option as numbers split at commas or ``x``; UsageError when one of them is not a number."""
        try:
            return tuple(float(part) for part in re.split("[,x]", self.options.get(key, "")) if part)
        except ValueError:
            raise UsageError(f"{self}: {key}={self.options[key]} is not a list of numbers") from None

    def only(self, *known: str) -> None:
        """UsageError with a suggestion when an option is none of these."""
        for key in self.options:
            if key not in known:
                raise UsageError(f"{self}: {unknown('option', key, known)}")


def parse_uri(text: str) -> Uri:
    """The parts of a URI. Without a scheme (a plain path, also ``C:\\\\x``) ``scheme`` is empty.

    A ``?`` begins the options only when ``name=`` follows, so that paths may contain one.

    >>> parse("file:cats.safetensors?labels=a,b").names("labels")
    ('a', 'b')
    """
    match = SCHEME.fullmatch(text.strip())
    scheme, rest = (match[1].lower(), match[2]) if match else ("", text.strip())
    query = QUERY.fullmatch(rest)
    if not query:
        return Uri(scheme, rest)
    options: dict[str, str] = {}
    for pair in query[2].split("&"):
        key, _, value = pair.partition("=")
        if key in options:
            raise UsageError(f"{text}: option {key!r} is given twice")
        options[key] = value
    return Uri(scheme, query[1], options)
