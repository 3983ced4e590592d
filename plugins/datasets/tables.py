"""``csv:FILE``: one row an image, with the columns ``image`` and ``label``, perhaps ``split`` and ``group``.

Options ``image=``, ``label=``, ``part=`` name other columns; ``group=`` a column, or a regular expression of the
image's path. Paths are relative to the table's folder. The separator is a comma, a semicolon or a tab, whichever the
heading has most of. A table with the same file content in two parts is refused.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from counterlens.core.data.dataset import PARTS, Dataset
from counterlens.core.data.selection import COMMON, ListedImage, dataset_of, refuse_shared, shared
from counterlens.core.errors import UsageError, unknown
from counterlens.core.utils.uri import Uri
from counterlens.plugins.datasets.folder import pixels, stamp

COLUMNS = {
    "image": ("image", "file", "filename", "path", "image_path"),
    "label": ("label", "class", "target", "diagnosis"),
    "part": ("split", "part", "fold"),
    "group": ("group", "patient", "patient_id", "subject"),
}


def open_dataset(uri: Uri) -> Dataset:
    uri.only(*COMMON, "image", "label", "part")
    path = Path(uri.path).expanduser()
    if not path.is_file():
        raise UsageError(f"{uri}: there is no such file; give a table with the columns image and label")
    heading, lines = _read(path)
    columns = {key: _column(uri, key, heading) for key in COLUMNS}
    for key in ("image", "label"):
        if columns[key] is None:
            raise UsageError(
                f"{path}: no column {key!r}, only {', '.join(heading)}; say which it is: csv:{path.name}?{key}=COLUMN"
            )
    if uri.text("group") in heading:  # a column, so that no pattern is left
        uri = Uri(uri.scheme, uri.path, {k: v for k, v in uri.options.items() if k != "group"})
    rows = list(_rows(path, columns, lines))
    refuse_shared(uri, shared(rows))
    return dataset_of(uri, rows)


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a text file in UTF-8; save the table as CSV in UTF-8") from None
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.DictReader(text.splitlines(), delimiter=separator)
    return list(reader.fieldnames or ()), [{k: v or "" for k, v in line.items() if k} for line in reader]


def _column(uri: Uri, key: str, heading: list[str]) -> str | None:
    """The name of a column: as the option says, else one of the usual names."""
    if key in uri.options and (key != "group" or uri.text(key) in heading):
        if uri.text(key) not in heading:
            raise unknown(f"column of {uri.path}", uri.text(key), heading)
        return uri.text(key)
    lower = {name.strip().lower(): name for name in heading}
    return next((lower[name] for name in COLUMNS[key] if name in lower), None)


def _rows(table: Path, columns: dict[str, str | None], lines: list[dict[str, str]]) -> Iterator[ListedImage]:
    for line in lines:
        cells = {key: line.get(name or "", "").strip() for key, name in columns.items()}
        if not (cells["image"] and cells["label"]):
            continue
        path = Path(cells["image"]).expanduser()
        path = path if path.is_absolute() else table.parent / path
        read, mark = partial(pixels, path), partial(stamp, path)
        part = PARTS.get(cells["part"].lower(), cells["part"])
        size = partial(_size, path)
        yield ListedImage(
            id=cells["image"],
            label=cells["label"],
            name=cells["image"],
            read=read,
            stamp=mark,
            part=part,
            group=cells["group"],
            mark=size,
        )


def _size(path: Path) -> int | str:
    """Files of different sizes are different files: they need not be read to know it."""
    try:
        return path.stat().st_size
    except OSError:
        return str(path)  # not there: said when it is read
