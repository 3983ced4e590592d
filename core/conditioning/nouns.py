"""Nouns and their heads: with spaCy's English model where it is installed, else by a few rules.

The rules need nothing but the standard library; which of the two was used is said to the user (``Grammar.note``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from counterlens.core.errors import MissingError

MODEL = "en_core_web_sm"
FETCH = f"python -m spacy download {MODEL}"
WORD = re.compile(r"\w+(?:['’./]\w+)*", re.UNICODE)  # 16.4, C/V and o'clock are one word, a final dot is none
# words that are no nouns of a caption: closed classes, and what captions use to describe
FUNCTION = """
    a an the this that these those some any each every no its his her their our my your and or but nor with without
    of on in at by to from for into onto over under above below behind between among through across around near beside
    up down off out as than then there here is are was were be been being has have had do does did can could will would
    may might must it he she they we you i who which what where when while very quite not only also just more most less
    several many few other another both all
"""
DESCRIBING = """
    one two three four five six seven eight nine ten left middle right top centre center bottom
    red orange yellow lime green mint cyan azure blue violet magenta rose black white grey gray brown pink purple
    small medium large big little tiny huge long short tall thin thick bold plain round soft pointed spiky bright dark
    old new young wooden looking sitting standing lying holding walking running eating wearing playing flying hanging
    showing parked covered filled made
"""
EMPTY, DESCRIPTIONS = frozenset(WORD.findall(FUNCTION)), frozenset(WORD.findall(DESCRIBING))
FRAME = frozenset(("image", "photo", "photograph", "picture", "closeup", "view", "drawing", "painting", "shot"))


@dataclass(frozen=True)
class Word:
    """A word of a text: characters ``start`` to ``end``, its lemma in lower case, whether it is a noun, and whether it
    says something at all (a noun, or a word that describes)."""

    text: str
    start: int
    end: int
    lemma: str
    noun: bool
    content: bool


@dataclass(frozen=True)
class Grammar:
    """``words(text)`` and ``head(name)``, the noun that a name is about; ``note`` says what they rest on."""

    name: str
    words: Callable[[str], list[Word]]
    head: Callable[[str], Word | None]
    note: str = ""


@lru_cache(maxsize=4)
def grammar(model: str = "") -> Grammar:
    """spaCy with ``model`` (a package or a folder; its small English model if not named), else the rules.

    MissingError for a model that was named and is not there.
    """
    try:
        import spacy

        return _of_spacy(spacy.load(model or MODEL), model or MODEL)
    except ImportError:
        reason, command = "spaCy is not installed", f"pip install spacy && {FETCH}"
    except OSError:
        reason, command = f"spaCy's model {model or MODEL} is not installed", FETCH
    if model:
        raise MissingError(f"{reason}: {command if model == MODEL else f'python -m spacy download {model}'}")
    return Grammar("rules", _words, _head, f"nouns were found by rules, because {reason}: {command}")


def rules() -> Grammar:
    """The rules alone."""
    return Grammar("rules", _words, _head)


def _of_spacy(nlp: Any, model: str) -> Grammar:
    def words(text: str) -> list[Word]:
        return [_word(token) for token in nlp(text) if not token.is_punct and not token.is_space]

    def head(name: str) -> Word | None:
        document = nlp(name)
        nouns = [token for token in document if token.pos_ in ("NOUN", "PROPN")]
        roots = [token for token in nouns if token.dep_ == "ROOT"]
        chosen = roots[:1] or nouns[-1:] or list(document)[-1:]
        return _word(chosen[0]) if chosen else None

    return Grammar(f"spacy {model}", words, head)


def _word(token: Any) -> Word:
    """One of spaCy's tokens; a model without a lemmatiser leaves lemmas empty."""
    lemma = token.lemma_.lower() or _singular(token.lower_)
    noun = token.pos_ in ("NOUN", "PROPN") and token.lower_ not in FRAME
    content = noun or token.pos_ in ("ADJ", "NUM", "VERB")
    return Word(
        text=token.text, start=token.idx, end=token.idx + len(token.text), lemma=lemma, noun=noun, content=content
    )


def _words(text: str) -> list[Word]:
    found = []
    for match in WORD.finditer(text):
        lower = match[0].lower()
        content = lower not in EMPTY and lower not in FRAME and not lower.isdigit()
        noun = content and lower not in DESCRIPTIONS
        lemma = _singular(lower) if noun else lower
        found.append(Word(match[0], *match.span(), lemma=lemma, noun=noun, content=content))
    return found


def _head(name: str) -> Word | None:
    """The last noun before a preposition: ``loaf of bread`` is a loaf, ``great white shark`` a shark."""
    words = _words(re.split(r"\s(?:of|with|in|on|for)\s", name, maxsplit=1)[0])
    nouns = [word for word in words if word.noun and not re.search(r"\d", word.text)]
    return nouns[-1] if nouns else (words[-1] if words else None)


def _singular(word: str) -> str:
    """The singular of a regular English noun."""
    if re.search(r"[^aeiou]ies$", word) and len(word) > 4:
        return f"{word[:-3]}y"
    if re.search(r"(?:ss|x|z|ch|sh)es$", word):
        return word[:-2]
    return word[:-1] if re.search(r"[^su]s$", word) and len(word) > 3 and not word.endswith("is") else word


def same_noun(word: Word, head: Word) -> bool:
    """Whether two words are one noun, whatever their number."""
    return word.lemma == head.lemma or _singular(word.text.lower()) == _singular(head.text.lower())
