"""Labelled images by URI: one file a scheme, each with ``open_rows``; this module only picks the file."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.core.utils.uri import parse_uri

if TYPE_CHECKING:
    from counterlens.core.data.dataset import Dataset

FILES = {"": "folder", "folder": "folder", "csv": "tables", "npz": "arrays", "hf": "rows"}


@hookimpl
def counterlens_schemes() -> dict[str, dict[str, str]]:
    return {
        "data": {
            "folder": "a folder with a sub-folder of images for each class",
            "csv": "a table with the columns of paths and labels",
            "npz": "arrays of images and labels",
            "hf": "a folder of the library datasets",
        }
    }


@hookimpl
def counterlens_open_dataset(uri: str) -> Dataset | None:
    """The data set behind a URI of ``FILES``, or a plain path, else None."""
    parts = parse_uri(uri)
    if parts.scheme not in FILES:
        return None
    return importlib.import_module(f"{__name__}.{FILES[parts.scheme]}").open_dataset(parts)
