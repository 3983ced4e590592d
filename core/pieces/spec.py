"""The mini-language of pieces: ``NAME key=value key='two words'``, on the command line and in YAML alike."""

from __future__ import annotations

import shlex

from counterlens.core.errors import UsageError


def parse_spec(text: str) -> tuple[str, dict[str, str]]:
    """A piece's name and its options, still as text.

    >>> parse("l2 weight=0.5 space=pixel")
    ('l2', {'weight': '0.5', 'space': 'pixel'})
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"cannot read {text!r} ({error}): write NAME key=value key='two words'") from None
    if not words:
        raise UsageError("an empty piece: write NAME key=value")
    options: dict[str, str] = {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise UsageError(f"cannot read {word!r} in {text!r}: write NAME key=value")
        if key.replace("-", "_") in options:
            raise UsageError(f"option {key!r} is given twice in {text!r}")
        options[key.replace("-", "_")] = value
    return words[0], options
