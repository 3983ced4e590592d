"""A run as a user study: a page for participants, and the key that they do not see.

Two kinds of questions. *Forced choice*: two pictures of one source by different methods, side in random order: which
one better shows what would have to change? *Quiz*: a picture and its counterfactual, which of the two does the
classifier call by this name? Both are drawn with a seed; answers are a file that the page lets one save.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import UsageError
from counterlens.core.runs.report import render

if TYPE_CHECKING:
    from counterlens.benchmarks.protocol.bench import Bench

Record = Mapping[str, Any]


def export(bench: Bench, folder: Path, questions: int = 40, seed: int = 0) -> dict[str, Any]:
    """Write ``study.html`` and ``key.json`` into ``folder``; only counterfactuals that flipped are shown.

    UsageError when fewer than two pictures can be shown.
    """
    rng = random.Random(seed)
    flipped = _flipped(bench)
    asked = _choices(flipped, rng) + _quiz(flipped, rng)
    if not asked:
        raise UsageError(f"{bench.run.name}: no counterfactual flipped, so there is nothing to ask about")
    rng.shuffle(asked)
    asked = [{**question, "id": k + 1} for k, question in enumerate(asked[:questions])]
    shown = [{**question, **_pictures(bench, question)} for question in asked]
    folder.mkdir(parents=True, exist_ok=True)
    page = render("study.html.j2", folder=Path(__file__).parent, questions=shown, study=bench.run.name, seed=seed)
    (folder / "study.html").write_text(page, encoding="utf-8")
    key = {"run": bench.run.name, "protocol": bench.protocol.hash, "seed": seed, "questions": asked}
    (folder / "key.json").write_text(json.dumps(key, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return {"study": str(folder / "study.html"), "key": str(folder / "key.json"), "questions": len(asked)}


def _flipped(bench: Bench) -> dict[str, dict[str, Record]]:
    """{image: {method: record}} of what flipped; controls take part only where they are pictures of their own."""
    methods = [entry.name for entry in bench.entries if not (entry.control or entry.skipped or entry.draw_of)]
    found: dict[str, dict[str, Record]] = {}
    for method in methods:
        for record in bench.records()[method]:
            if record and record["flipped"]:
                found.setdefault(record["image"], {})[method] = record
    return found


def _choices(flipped: Mapping[str, Mapping[str, Record]], rng: random.Random) -> list[dict[str, Any]]:
    """Every image under every two methods that flipped it, sides at random."""
    asked = []
    for image, by_method in flipped.items():
        for pair in combinations(sorted(by_method), 2):
            left, right = rng.sample(pair, 2)
            about = by_method[left]
            asked.append(
                {
                    "kind": "choice",
                    "image": image,
                    "source": about["source"],
                    "target": about["target"],
                    "left": {"method": left, "digest": about["digest"]},
                    "right": {"method": right, "digest": by_method[right]["digest"]},
                }
            )
    return asked


def _quiz(flipped: Mapping[str, Mapping[str, Record]], rng: random.Random) -> list[dict[str, Any]]:
    """A source and one counterfactual of it: which one is called by the target's name?"""
    asked = []
    for image, by_method in flipped.items():
        method = rng.choice(sorted(by_method))
        record = by_method[method]
        sides = rng.sample(["source", "counterfactual"], 2)
        about = {"kind": "quiz", "image": image, "source": record["source"], "target": record["target"]}
        places = {side: {"show": what, "method": method, "digest": record["digest"]} for side, what in _sides(sides)}
        asked.append({**about, **places, "answer": "left" if sides[0] == "counterfactual" else "right"})
    return asked


def _sides(two: Sequence[str]) -> Sequence[tuple[str, str]]:
    return (("left", two[0]), ("right", two[1]))


def _pictures(bench: Bench, question: Mapping[str, Any]) -> dict[str, Any]:
    """What the page needs, and nothing of the key."""

    def uri(place: Mapping[str, Any], name: str) -> str:
        path = bench.run.path / "items" / place["digest"] / f"{name}.png"
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()

    sides = {side: uri(question[side], question[side].get("show", "counterfactual")) for side in ("left", "right")}
    first = uri(question["left"], "source") if question["kind"] == "choice" else ""
    return {"uris": {**sides, "source": first}}
