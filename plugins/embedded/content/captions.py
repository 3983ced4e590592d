"""Captions out of known factors, and the small tokenizer whose tokens are their words."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from counterlens.core.training import tokenizer
from counterlens.plugins.embedded.content import digits
from counterlens.plugins.embedded.content.shapes import Factors

COLOURS = ("red", "orange", "yellow", "lime", "green", "mint", "cyan", "azure", "blue", "violet", "magenta", "rose")
NUMBERS = digits.CLASSES
GRADES = ("round", "soft", "pointed", "spiky")
SIZES = ("small", "medium", "large")
PLACES = (("left", "middle", "right"), ("top", "centre", "bottom"))
STROKES = ("thin", "plain", "bold")
LEANS = ("left", "upright", "right")
GLUE = (
    "a",
    "an",
    "the",
    "with",
    "lobes",
    "on",
    "background",
    "at",
    "kiki",
    "bouba",
    "digit",
    "handwritten",
    "leaning",
    "image",
    "of",
    "shape",
    "photo",
    "picture",
    "star",
    "flower",
)
MAX_LENGTH = 20
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789,.-'"


def colour(hue: float) -> str:
    return COLOURS[int(hue * 12 + 0.5) % 12]


def third(value: float, low: float, high: float) -> int:
    return int(np.clip((value - low) / (high - low) * 3, 0, 2))


def of_shape(f: Factors, rng: np.random.Generator | None = None) -> str:
    """All that the factors say; with ``rng``, each part but the class is left out three times in ten."""
    keep = np.ones(5, bool) if rng is None else rng.uniform(size=5) > 0.3
    words = ["a"]
    words += [GRADES[min(3, int(f.spikiness * 4))]] if keep[0] else []
    words += [SIZES[third(f.size, 0.27, 0.40)]] if keep[1] else []
    words += [colour(f.hue), "kiki" if f.label else "bouba"] if keep[2] else ["kiki" if f.label else "bouba"]
    words += ["with", NUMBERS[f.lobes], "lobes"] if keep[3] else []
    words += ["on", "a", colour(f.background), "background"] if keep[4] else []
    if rng is None or rng.uniform() > 0.3:
        words += ["at", PLACES[1][third(f.cy, 0.43, 0.57)], PLACES[0][third(f.cx, 0.43, 0.57)]]
    return " ".join(words)


def stroke_and_lean(picture: np.ndarray) -> tuple[float, float]:
    """Share of ink and slant (x moved to the right per unit of height) of a digit, uint8 [32,32,3]."""
    ink = picture[..., 0] / 255.0
    y, x = np.mgrid[0:32, 0:32]
    total = ink.sum() + 1e-6
    dy, dx = y - (ink * y).sum() / total, x - (ink * x).sum() / total
    return float(ink.mean()), float(-(ink * dx * dy).sum() / ((ink * dy * dy).sum() + 1e-6))


def of_digit(picture: np.ndarray, label: int, rng: np.random.Generator | None = None) -> str:
    ink, lean = stroke_and_lean(picture)
    keep = np.ones(2, bool) if rng is None else rng.uniform(size=2) > 0.3
    words = ["a"] + ([STROKES[third(ink, 0.167, 0.232)]] if keep[0] else []) + [NUMBERS[label]]
    way = LEANS[third(lean, -0.19, 0.114)]
    if keep[1]:
        words = [*words[:-1], way, words[-1]] if way == "upright" else [*words, "leaning", way]
    return " ".join(words)


def class_prompt(name: str) -> str:
    """The prompt that asks for a class."""
    return {"kiki": "a spiky kiki", "bouba": "a round bouba"}.get(name, f"a {name}")


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Byte-pair vocabulary and merges that leave every known word one token; other words fall into letters."""
    words = {*COLOURS, *NUMBERS, *GRADES, *SIZES, *PLACES[0], *PLACES[1], *STROKES, *LEANS, *GLUE}
    return tokenizer.vocabulary(words, LETTERS)


def write_tokenizer(folder: Path) -> None:
    """The files of a CLIPTokenizer."""
    tokenizer.write_tokenizer(folder, *vocabulary(), MAX_LENGTH)
