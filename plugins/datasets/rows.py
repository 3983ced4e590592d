"""``hf:NAME`` or ``hf:FOLDER``: a data set of Hugging Face's library ``datasets``, from the hub or saved to disk.

Options ``image=``, ``label=`` name other columns than ``image`` and ``label``; ``config=`` one of several
configurations. ``group=`` names a column. Its own splits are its parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from counterlens.core.data.dataset import PARTS, Dataset
from counterlens.core.data.selection import COMMON, ListedImage, dataset_of
from counterlens.core.errors import MissingError, UsageError, unknown
from counterlens.core.utils.digest import digest
from counterlens.core.utils.uri import Uri


def open_dataset(uri: Uri) -> Dataset:
    uri.only(*COMMON, "image", "label", "config")
    parts = _load(uri)
    columns = {key: uri.text(key, key) for key in ("image", "label")}
    rows, order = [], []
    for name, table in parts.items():
        for column in columns.values():
            if column not in table.column_names:
                raise unknown(f"column of {uri}", column, table.column_names)
        known = getattr(table.features[columns["label"]], "names", None)
        order = list(known or ())
        rows += list(_rows(uri, name, table, columns, known))
    if uri.text("group") in next(iter(parts.values())).column_names:
        uri = Uri(uri.scheme, uri.path, {k: v for k, v in uri.options.items() if k != "group"})
    return dataset_of(uri, rows, order)


def _load(uri: Uri) -> dict[str, Any]:
    try:
        import datasets
    except ImportError:
        raise MissingError("hf: needs the library datasets: pip install datasets") from None
    try:
        if Path(uri.path).expanduser().is_dir():
            found = datasets.load_from_disk(str(Path(uri.path).expanduser()))
        else:
            found = datasets.load_dataset(uri.path, uri.text("config") or None)
    except Exception as error:  # the library raises what its many readers raise
        raise UsageError(f"{uri}: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from None
    return dict(found) if isinstance(found, dict) else {"": found}


def _rows(uri: Uri, part: str, table: Any, columns: dict[str, str], names: Any) -> Iterator[ListedImage]:
    labels = table[columns["label"]]
    own = uri.text("group") in table.column_names
    groups = [str(group) for group in table[uri.text("group")]] if own else [""] * len(labels)
    print_of = getattr(table, "_fingerprint", "")
    for k, (label, group) in enumerate(zip(labels, groups, strict=True)):
        text, name = names[label] if names else str(label), f"{part}{k:06d}"
        read = partial(_pixels, table, k, columns["image"])
        yield ListedImage(
            id=f"{text}/{name}",
            label=text,
            name=name,
            read=read,
            stamp=partial(digest, [print_of, k]),
            part=PARTS.get(part, ""),
            group=group,
        )


def _pixels(table: Any, k: int, column: str) -> np.ndarray:
    return np.asarray(table[k][column].convert("RGB"))
