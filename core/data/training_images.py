"""Which images weights were trained on: their hashes in a file beside the weights, and who has seen an image."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from counterlens.core.data.dataset import Dataset, Example
from counterlens.core.errors import UsageError
from counterlens.core.utils.files import explained, write_atomic
from counterlens.core.utils.uri import parse_uri

if TYPE_CHECKING:
    import numpy as np

    from counterlens.core.data.domain import Domain

NAME = "training_images.json"
FORMAT = "counterlens-training-images"
VERSION = 1


@dataclass(frozen=True)
class TrainedPart:
    """A trained part of a request, and the hashes of the images that its record names."""

    what: str
    uri: str
    images: frozenset[str]

    @property
    def name(self) -> str:
        return f"the {self.what} {self.uri}"


def write_record(out: Path, hashes: Iterable[str], data: str) -> Path:
    """The record of a folder of weights in it, of a file beside it. ``hashes``: of the decoded pixels, before any
    cut (``Example.digest``)."""
    place = out / NAME if out.is_dir() else out.with_name(f"{out.name}.{NAME}")
    found = {"format": FORMAT, "version": VERSION, "data": data, "images": sorted(set(hashes))}
    with explained(place):
        write_atomic(place, (json.dumps(found, indent=0) + "\n").encode())
    return place


def read_record(place: Path) -> frozenset[str]:
    """The hashes of a record; UsageError when it is none that this version can read."""
    return _read(place, place.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _read(place: Path, changed: int) -> frozenset[str]:
    try:
        found = json.loads(place.read_bytes())
        images = frozenset(found["images"])
        known = found["format"] == FORMAT and found["version"] == VERSION
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise UsageError(f"{place}: not a record of training images that can be read: train again, or remove it")
    return images


def beside(weights: Path) -> Path | None:
    """The record of these weights: in the folder, beside the file, or in the folder that they lie in."""
    places = (weights / NAME, weights.with_name(f"{weights.name}.{NAME}"), weights.parent / NAME)
    return next((place for place in places if place.is_file()), None)


def uris_of(classifier: str, judge: str, model: str) -> dict[str, str]:
    """The URIs of a request by what they are in it, as ``trained_parts`` takes them."""
    return {"classifier": classifier, "judge": judge, "pipeline": model}


def trained_parts(uris: Mapping[str, str], domain: Callable[[str], type[Domain]]) -> list[TrainedPart]:
    """Those of ``{what it is: URI}`` that have a record. A hub id, and what is opened by code, has none.

    ``domain``: gives an embedded domain by its name.
    """
    found = []
    for what, uri in uris.items():
        weights = _weights(uri, domain) if uri else None
        record = beside(weights) if weights is not None and weights.exists() else None
        if record is not None:
            found.append(TrainedPart(what, uri, read_record(record)))
    return found


def _weights(uri: str, domain: Callable[[str], type[Domain]]) -> Path | None:
    parts = parse_uri(uri)
    if parts.scheme != "domain":
        return Path(parts.path).expanduser()
    name, _, family = parts.path.partition("/")
    return domain(name).models().get(family) if family else None


class Recorder:
    """A data set whose images are written down when they are read."""

    def __init__(self, dataset: Dataset) -> None:
        self.hashes: set[str] = set()
        self.dataset = replace(dataset, listed=lambda: tuple(self._noted(e) for e in dataset.examples))

    def _noted(self, example: Example) -> Example:
        def read() -> np.ndarray:
            pixels = example.read()
            self.hashes.add(example.digest(pixels))
            return pixels

        return replace(example, read=read)

    def write(self, out: Path) -> None:
        """The record of what was written, unless its trainer wrote more exact ones for its parts."""
        if self.hashes and out.exists() and not (out.is_dir() and any(out.glob(f"*/{NAME}"))):
            write_record(out, self.hashes, self.dataset.uri)
