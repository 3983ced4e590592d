"""Splits of labelled images in which a group (a patient) is never in two parts."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Protocol

from counterlens.core.errors import UsageError


class Grouped(Protocol):
    """An image with its class, and the group (a patient) that it belongs to."""

    @property
    def label(self) -> str: ...

    @property
    def group(self) -> str: ...


def split(examples: Sequence[Grouped], shares: Mapping[str, float], seed: int = 0) -> dict[str, list[int]]:
    """Indices of each part, about its share of every class; the same for the same images, seed and shares.

    UsageError when a class does not get into every part.
    """
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        groups[example.group][example.label] += 1
    total = Counter(example.label for example in examples)
    have: dict[str, Counter[str]] = {name: Counter() for name in shares}
    part_of: dict[str, str] = {}
    for group in sorted(groups, key=lambda group: hashlib.sha256(f"{seed}|{group}".encode()).digest()):
        counts = groups[group]
        part_of[group] = min(shares, key=lambda part: _filled(counts, have[part], total) / shares[part])
        have[part_of[group]] += counts
    for label in sorted(total):
        if lacking := [part for part in shares if not have[part][label]]:
            own = sum(label in counts for counts in groups.values())
            raise UsageError(
                f"class {label!r} has {total[label]} images in {own} groups, too few for a part of each "
                f"({', '.join(shares)}): {lacking[0]!r} gets none"
            )
    parts: dict[str, list[int]] = {name: [] for name in shares}
    for index, example in enumerate(examples):
        parts[part_of[example.group]].append(index)
    return parts


def _filled(counts: Counter[str], have: Counter[str], total: Counter[str]) -> float:
    """How much of the classes of a group a part has already, as a share of all there is."""
    return sum(counts[label] * have[label] / total[label] for label in counts)


SHARES = (("train", 0.75), ("validation", 0.05), ("test", 0.2))


def part_of(group: str) -> str:
    """The part of a group where the data has none of its own: by the group's hash, so that new images move none."""
    at, low = int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) / 16**8, 0.0
    for name, share in SHARES:
        low += share
        if at < low:
            return name
    return SHARES[-1][0]
