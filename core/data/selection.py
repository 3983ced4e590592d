"""From rows of a folder or a table to a data set: who belongs together, which part, which classes, which pixels."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from counterlens.core.data.dataset import PARTS, Dataset, Example
from counterlens.core.data.splits import part_of
from counterlens.core.errors import UsageError, unknown
from counterlens.core.images.borders import CROPS, cropped, trimmed
from counterlens.core.utils.digest import digest
from counterlens.core.utils.uri import Uri

if TYPE_CHECKING:
    import numpy as np

COMMON = ("split", "group", "classes", "crop", "trim", "first")


@dataclass(frozen=True)
class ListedImage:
    """One image as its source lists it. ``name`` is what a group pattern is held against; ``part`` and ``group`` are
    empty where the source says nothing of them; ``stamp()`` is the digest of the content, and ``mark()`` something
    cheap that is the same for the same content."""

    id: str
    label: str
    name: str
    read: Callable[[], np.ndarray] = field(repr=False, compare=False)
    stamp: Callable[[], str] = field(repr=False, compare=False)
    part: str = ""
    group: str = ""
    mark: Callable[[], object] = field(default=str, repr=False, compare=False)


def dataset_of(uri: Uri, rows: Sequence[ListedImage], order: Sequence[str] = (), passed: Sequence[str] = ()) -> Dataset:
    """The data set that the options of the URI make of the rows; UsageError when fewer than two classes are left.

    ``split``: train, validation, test or all. A source that has no parts of its own is divided by the hash of the
    groups (75, 5, 20 %), and all of it is taken if ``split`` is not given. ``group``: a regular expression of the
    name. ``classes``: only these. ``crop``: square, pad, none. ``trim``: white borders become black. ``first``: so
    many of each class.
    """
    rows = _grouped(uri, rows)
    rows = _of_part(uri, rows)
    labels = _classes(uri, rows, order)
    rows = [row for row in rows if row.label in labels]
    if "first" in uri.options:
        rows = _first(uri, rows, labels)
    crop, trim = uri.text("crop", "none"), _yes(uri, "trim")
    if crop not in CROPS:
        raise unknown(f"{uri}: crop", crop, CROPS)
    examples = tuple(_example(row, crop, trim) for row in rows)

    def content() -> str:
        seen = [(row.id, row.label, row.stamp()) for row in rows]
        how = {"crop": crop, "trim": trim}
        return digest([seen, how]) if how != {"crop": "none", "trim": False} else digest(seen)

    part = PARTS.get(uri.text("split"), uri.text("split"))
    return Dataset(
        uri=str(uri), labels=tuple(labels), listed=lambda: examples, content=content, passed=tuple(passed), part=part
    )


def shared(rows: Sequence[ListedImage]) -> list[list[ListedImage]]:
    """The images that are in more than one part, by their content. Only those of the same mark are looked into."""
    alike: dict[object, list[ListedImage]] = defaultdict(list)
    for row in rows:
        if row.part:
            alike[row.mark()].append(row)
    same: dict[str, list[ListedImage]] = defaultdict(list)
    for found in alike.values():
        if len({row.part for row in found}) > 1:
            for row in found:
                same[row.stamp()].append(row)
    return [found for found in same.values() if len({row.part for row in found}) > 1]


def refuse_shared(uri: Uri, twins: Sequence[Sequence[ListedImage]]) -> None:
    """UsageError that names images which are in more than one part; whoever asks for all parts may have them."""
    if twins and uri.text("split") != "all":
        named = [" = ".join(f"{row.name} ({row.part})" for row in found) for found in twins[:3]]
        more = f" and {len(twins) - 3} more" if len(twins) > 3 else ""
        count = f"{len(twins)} images are" if len(twins) > 1 else "an image is"
        raise UsageError(f"{uri}: {count} in more than one part: {'; '.join(named)}{more}: leave each in one part only")


def _example(row: ListedImage, crop: str, trim: bool) -> Example:
    if crop == "none" and not trim:
        return Example(row.id, row.label, row.group, row.read)
    return Example(
        id=row.id, label=row.label, group=row.group, read=partial(_read, row.read, crop, trim), decode=row.read
    )


def _read(read: Callable[[], np.ndarray], crop: str, trim: bool) -> np.ndarray:
    pixels = read()
    return cropped(trimmed(pixels) if trim else pixels, crop)


def _grouped(uri: Uri, rows: Sequence[ListedImage]) -> list[ListedImage]:
    """Every row with its group: what the pattern matches in its name, else what the source says, else itself."""
    if "group" not in uri.options:
        return [row if row.group else replace(row, group=row.name) for row in rows]
    try:
        pattern = re.compile(uri.text("group"))
    except re.error as error:
        raise UsageError(f"{uri}: group is not a regular expression ({error})") from None

    def group(name: str) -> str:
        match = pattern.search(name)
        return (match[1] if pattern.groups else match[0]) if match else name

    found = [replace(row, group=group(row.name)) for row in rows]
    if rows and not any(pattern.search(row.name) for row in rows):
        raise UsageError(f"{uri}: the group pattern {pattern.pattern!r} matches no name, such as {rows[0].name!r}")
    return found


def _of_part(uri: Uri, rows: list[ListedImage]) -> list[ListedImage]:
    wanted = uri.text("split")
    if wanted == "all":
        return rows
    if wanted and wanted not in PARTS:
        raise unknown(f"{uri}: split", wanted, (*sorted(set(PARTS.values())), "all"))
    declared = {row.part for row in rows} - {""}
    if not declared:
        return [row for row in rows if not wanted or part_of(row.group) == PARTS[wanted]]
    part = PARTS[wanted or "train"]
    if wanted and part not in declared:
        raise UsageError(f"{uri}: there is no split {wanted!r}; it has {', '.join(sorted(declared))}")
    return [row for row in rows if row.part == part] if part in declared else rows


def _classes(uri: Uri, rows: Sequence[ListedImage], order: Sequence[str]) -> list[str]:
    counts = Counter(row.label for row in rows)
    known = [label for label in (order or sorted(counts)) if counts[label]]
    for name in uri.names("classes"):
        if name not in known:
            raise unknown(f"class of {uri}", name, known)
    labels = list(uri.names("classes") or known)
    if len(labels) < 2:
        found = f"only {labels[0]!r}" if labels else "none"
        raise UsageError(f"{uri}: two classes with images are needed at least, {found} found")
    return labels


def _first(uri: Uri, rows: Sequence[ListedImage], labels: Sequence[str]) -> list[ListedImage]:
    """So many of each class, in the order of the rows."""
    text = uri.text("first")
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{uri}: first={text} is not a number of images")
    kept = {id(row) for label in labels for row in [r for r in rows if r.label == label][: int(text)]}
    return [row for row in rows if id(row) in kept]


def _yes(uri: Uri, key: str) -> bool:
    text = uri.text(key, "false").lower()
    if text not in ("true", "false", "1", "0", "yes", "no"):
        raise UsageError(f"{uri}: {key} is true or false, not {text!r}")
    return text in ("true", "1", "yes")
