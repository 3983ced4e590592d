"""Data that is no domain, split into train, validation and test: folders of pictures, and what plugins list."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from counterlens.core.domain import Domain, Sample
from counterlens.core.errors import UsageError, unknown
from counterlens.core.uri import Uri

if TYPE_CHECKING:
    from counterlens.core.datasets import Dataset

ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
SPLITS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
SHARES = (("train", 0.7), ("validation", 0.15), ("test", 0.15))


class Folder(Domain):
    """What a domain can do, from pictures on the disk.

    ``DIR/train/CLASS/…``, ``DIR/val/CLASS/…``, ``DIR/test/CLASS/…``; without such folders ``DIR/CLASS/…``, each
    picture put into a split by the hash of its path, so that adding pictures moves none. A split that is not there
    is made of another one's in the same way. ``?classes=a,b`` takes only these classes.
    """

    def __init__(self, root: Path, classes: tuple[str, ...], files: dict[str, list[Path]]) -> None:
        self.root, self.labels, self.files = root, classes, files  # type: ignore[misc]
        self.name = root.name  # type: ignore[misc]

    @classmethod
    def open(cls, uri: Uri) -> Folder:
        """The folder of a URI; UsageError in one line when it has no classes."""
        uri.only("classes")
        root = Path(uri.path).expanduser()
        if not root.is_dir():
            raise UsageError(f"{uri}: no such folder")
        there = {
            split: root / name for split, names in SPLITS.items() for name in reversed(names) if (root / name).is_dir()
        } or {"": root}
        found = {split: _classes(folder) for split, folder in there.items()}
        every = sorted({name for by_class in found.values() for name in by_class})
        classes = uri.names("classes") or tuple(every)
        for name in classes:
            if name not in every:
                raise unknown(f"class in {root}", name, every)
        if len(classes) < 2:
            raise UsageError(f"{uri}: needs a sub-folder with pictures for each of at least two classes")
        chosen = {
            split: [path for name in classes for path in by_class.get(name, ())] for split, by_class in found.items()
        }
        return cls(root, classes, _completed(chosen))

    def length(self, split: str = "test") -> int:  # type: ignore[override]
        return len(self._split(split))

    def sample(self, index: int, split: str = "test") -> Sample:  # type: ignore[override]
        paths = self._split(split)
        if not 0 <= index < len(paths):
            raise UsageError(f"{self.root} has {len(paths)} {split} images (0 to {len(paths) - 1}), not {index}")
        return Sample(pixels=_pixels(paths[index]), label=paths[index].parent.name)

    def target_for(self, label: str) -> str:  # type: ignore[override]
        """The next class in their order."""
        if label not in self.labels:
            raise unknown("class", label, self.labels)
        return self.labels[(self.labels.index(label) + 1) % len(self.labels)]

    def _split(self, split: str) -> list[Path]:
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        return self.files[split]


class Listed(Domain):
    """A data set of a plugin (core/datasets.py), each image put into a split by the hash of its group."""

    def __init__(self, dataset: Dataset) -> None:
        self.labels, self.name = dataset.labels, dataset.uri  # type: ignore[misc]
        examples = sorted(dataset.examples, key=lambda example: _digest(example.id))
        self.parts = {split: [e for e in examples if _share(_digest(e.group)) == split] for split in SPLITS}

    def length(self, split: str = "test") -> int:  # type: ignore[override]
        return len(self.parts[split])

    def sample(self, index: int, split: str = "test") -> Sample:  # type: ignore[override]
        example = self.parts[split][index]
        return Sample(pixels=example.read(), label=example.label)

    def target_for(self, label: str) -> str:  # type: ignore[override]
        """The next class in their order."""
        return self.labels[(self.labels.index(label) + 1) % len(self.labels)]


def _classes(folder: Path) -> dict[str, list[Path]]:
    """{class: its pictures, sorted}."""
    found = {}
    for inside in sorted(path for path in folder.iterdir() if path.is_dir()):
        pictures = sorted(path for path in inside.iterdir() if path.suffix.lower() in ENDINGS)
        if pictures:
            found[inside.name] = pictures
    return found


def _completed(chosen: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """Pictures of all three splits, shuffled by hash so that classes alternate; missing splits are cut from others."""
    if "" in chosen:
        return {split: [p for p in _shuffled(chosen[""]) if _share_of(p) == split] for split, _ in SHARES}
    files = {split: _shuffled(paths) for split, paths in chosen.items()}
    if "train" not in files:
        raise UsageError("the data has no train folder")
    for split in ("validation", "test"):
        if split not in files:
            files[split] = [path for path in files["train"] if _share_of(path) == split]
            files["train"] = [path for path in files["train"] if _share_of(path) != split]
    return files


def _shuffled(paths: list[Path]) -> list[Path]:
    return sorted(paths, key=_hash)


def _hash(path: Path) -> str:
    return _digest(f"{path.parent.name}/{path.name}")


def _share_of(path: Path) -> str:
    return _share(_hash(path))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _share(digest: str) -> str:
    """The split of a hash."""
    at, low = int(digest[:8], 16) / 16**8, 0.0
    for split, share in SHARES:
        low += share
        if at < low:
            return split
    return SHARES[-1][0]


@lru_cache(maxsize=64)
def _pixels(path: Path) -> np.ndarray:
    from counterlens.core.images import load

    return load(path).pixels
