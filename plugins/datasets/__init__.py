"""Labelled images by URI: one file a scheme, each with ``open_rows``; this module only picks the file."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.core.utils.uri import parse_uri

if TYPE_CHECKING:
    from counterlens.core.data.dataset import Dataset

SCHEMES = {"csv": "tables", "npz": "arrays", "hf": "rows"}


@hookimpl
def counterlens_open_dataset(uri: str) -> Dataset | None:
    """The data set behind a URI of ``SCHEMES``, else None."""
    parts = parse_uri(uri)
    if parts.scheme not in SCHEMES:
        return None
    return importlib.import_module(f"{__name__}.{SCHEMES[parts.scheme]}").open_dataset(parts)
