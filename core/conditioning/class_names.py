"""Class names in captions: found as whole words, by their head noun or not at all; swapped once, articles mended.

A caption is never cut at a dot, a name is never found inside another word, and a name with dots or slashes
(``Bugatti Veyron 16.4``, ``Ram C/V``) is a name like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from counterlens.core.conditioning.nouns import Grammar, same_noun
from counterlens.core.errors import UsageError

VOWEL_SOUND = re.compile(r"(?:[aeio]|u(?!ni|se|su|r[aio]|biq|ti|ke)|hono?u?r|honest|hour|heir)", re.IGNORECASE)
CONSONANT_SOUND = re.compile(r"(?:eu|ewe|one\b|once\b)", re.IGNORECASE)


@dataclass(frozen=True)
class NameSpan:
    """Where a class is named in a caption: characters ``start`` to ``end``; ``how``: name, plural or head."""

    start: int
    end: int
    how: str


@dataclass(frozen=True)
class CaptionSwap:
    """A caption and the same with the other class; ``note`` says what was not as asked."""

    source: str
    target: str
    note: str = ""


def names_of(label: str) -> tuple[str, ...]:
    """What a label may be called: its synonyms between commas, each with blanks for underscores.

    >>> names_of("tench, Tinca_tinca")
    ('tench', 'Tinca tinca')
    """
    parts = (re.sub(r"\s+", " ", part.replace("_", " ")).strip() for part in label.split(","))
    return tuple(part for part in parts if part) or (label,)


def find_class_name(caption: str, label: str, grammar: Grammar) -> NameSpan | None:
    """The first place that names a class: one of its names, in any case, or its plural; else its head noun.

    >>> from counterlens.core.conditioning.nouns import rules
    >>> find_class_name("a cab beside a cabinet", "cabinet", rules())
    NameSpan(start=15, end=22, how='name')
    >>> find_class_name("two small cabinets", "cab", rules()) is None
    True
    """
    for name in names_of(label):
        if match := re.search(_whole(name), caption, re.IGNORECASE):
            return NameSpan(*match.span(), "name")
    for name in names_of(label):
        if match := re.search(_whole(name, "(?:s|es)"), caption, re.IGNORECASE):
            return NameSpan(*match.span(), "plural")
    for name in names_of(label):
        if found := _by_head(caption, name, grammar):
            return found
    return None


def _whole(name: str, ending: str = "") -> str:
    """A pattern for a name that stands alone; blanks and hyphens are one."""
    parts = [re.escape(part) for part in re.split(r"[\s-]+", name) if part]
    return r"(?<!\w)" + r"[\s-]+".join(parts) + ending + r"(?!\w)"


def _by_head(caption: str, name: str, grammar: Grammar) -> NameSpan | None:
    """The noun that is the name's head, with the words of the name that stand before it."""
    head = grammar.head(name)
    own = [word.lemma for word in grammar.words(name)]
    words = grammar.words(caption)
    for k, word in enumerate(words):
        if head is None or not word.noun or not same_noun(word, head):
            continue
        first = k
        while first and words[first - 1].lemma in own:
            first -= 1
        return NameSpan(words[first].start, word.end, "head")
    return None


def named(caption: str, label: str, grammar: Grammar) -> bool:
    """Whether a caption names a class by its own name (or its plural)."""
    found = find_class_name(caption, label, grammar)
    return found is not None and found.how != "head"


def caption_naming(caption: str, label: str, grammar: Grammar, repair: bool = True) -> tuple[str, str]:
    """(caption, note): a caption that names its class. One that does not gets the name in the place of its head noun,
    or in front; UsageError if it is not to be repaired.

    >>> from counterlens.core.conditioning.nouns import rules
    >>> ensured("a cat on a mat", "Egyptian cat", rules())[0]
    'an Egyptian cat on a mat'
    >>> ensured("two of them on a mat.", "Ram C/V", rules())[0]
    'a Ram C/V, two of them on a mat.'
    """
    caption, name = re.sub(r"\s+", " ", caption).strip(), names_of(label)[0]
    found = find_class_name(caption, label, grammar)
    if found is not None and found.how != "head":
        return caption, ""
    if not repair:
        raise UsageError(
            f"the caption {caption!r} does not name its class {label!r}: leave missing=refuse out, or --prompt"
        )
    if found is not None:
        return replaced(caption, found, name), f"the caption did not name {label!r}: the name was put in"
    front = f"{article(name)} {name}"
    return (
        f"{front}, {caption}" if caption else front
    ), f"the caption did not name {label!r}: the name was put in front"


def swap(caption: str, source: str, target: str, grammar: Grammar) -> CaptionSwap:
    """A caption of the source class, and what it says of the target class: the span is replaced once.

    >>> from counterlens.core.conditioning.nouns import rules
    >>> swap("an apple beside a cabinet", "apple", "cab", rules()).target
    'a cab beside a cabinet'
    """
    source_caption, note = caption_naming(caption, source, grammar)
    found = find_class_name(source_caption, source, grammar)
    assert found is not None
    return CaptionSwap(source_caption, replaced(source_caption, found, names_of(target)[0]), note)


def replaced(caption: str, found: NameSpan, name: str) -> str:
    """The caption with ``name`` at a place; a plural stays one, and an article before it is mended."""
    new = f"{name}{plural(name)}" if found.how == "plural" else name
    before, after = caption[: found.start], caption[found.end :]
    if match := re.search(r"(?<!\w)(an?)(\s+)$", before, re.IGNORECASE):
        right = article(new)
        right = right.capitalize() if match[1][0].isupper() else right
        before = f"{before[: match.start()]}{right}{match[2]}"
    return before + new + after


def plural(name: str) -> str:
    """The ending of a name's plural."""
    return "es" if re.search(r"(?:s|x|z|ch|sh)$", name, re.IGNORECASE) else "s"


def article(words: str) -> str:
    """``a`` or ``an``, by how the first word begins to sound.

    >>> [article(word) for word in ("kiki", "orange", "umbrella", "unicorn", "hour", "one", "8")]
    ['a', 'an', 'an', 'a', 'an', 'a', 'an']
    """
    text = words.strip()
    if re.match(r"(?:8|11(?!\d)|18(?!\d))", text):
        return "an"
    return "an" if VOWEL_SOUND.match(text) and not CONSONANT_SOUND.match(text) else "a"


def candidates(captions: Iterable[str], grammar: Grammar, least: int = 1, nouns: bool = True) -> list[tuple[str, int]]:
    """(word, in how many captions) of some captions, the most frequent first; lower case, stripped, none twice.

    Only ``nouns``, or also words that describe.
    """
    counts: dict[str, int] = {}
    for caption in captions:
        own = {word.lemma for word in grammar.words(caption) if (word.noun if nouns else word.content)}
        for lemma in sorted(own):
            counts[lemma] = counts.get(lemma, 0) + 1
    return sorted(((w, n) for w, n in counts.items() if n >= least), key=lambda one: (-one[1], one[0]))
