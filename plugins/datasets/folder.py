"""A folder with a sub-folder of images for each class, or with train, validation and test folders of such."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from counterlens.core.data.dataset import PARTS, Dataset
from counterlens.core.data.selection import COMMON, ListedImage, dataset_of
from counterlens.core.errors import UsageError
from counterlens.core.utils.digest import file_sha256
from counterlens.core.utils.uri import Uri

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif"}
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst")


def open_dataset(uri: Uri) -> Dataset:
    """The data set in a folder; names are read, and no pixels."""
    uri.only(*COMMON)
    root = Path(uri.path).expanduser()
    check_folder(uri, root)
    rows = list(_rows(root))
    _check_classes(root, rows)
    return dataset_of(uri, rows, passed=[str(path) for path in _others(root)])


def check_folder(uri: Uri, root: Path) -> None:
    """UsageError for what is no folder, by what it is."""
    if root.is_file() and root.name.lower().endswith(ARCHIVES):
        raise UsageError(f"{root}: an archive; unpack it first, and give the folder")
    if root.is_file():
        raise UsageError(f"{root}: a file; give a folder with a sub-folder of images for each class, or csv:FILE")
    if not root.is_dir():
        raise UsageError(f"{uri}: there is no such folder; give a folder with a sub-folder of images for each class")


def _rows(root: Path) -> Iterator[ListedImage]:
    """In the order of the names; a folder that is divided into parts has them in every row."""
    parts = {p: PARTS[p.name.lower()] for p in _folders(root) if p.name.lower() in PARTS}
    for place, part in parts.items() or {root: ""}.items():
        for folder in _folders(place):
            for path in images_in(folder):
                identity = f"{folder.name}/{path.name}"
                yield ListedImage(
                    id=identity,
                    label=folder.name,
                    name=path.name,
                    read=partial(pixels, path),
                    stamp=partial(stamp, path),
                    part=part,
                )


def _folders(place: Path) -> list[Path]:
    return sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))


def images_in(folder: Path) -> list[Path]:
    """The image files of a class folder, by name; its own sub-folders are not looked into, so no link leads round."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def _others(root: Path) -> list[Path]:
    """Files of class folders that are no images by their names."""
    parts = [p for p in _folders(root) if p.name.lower() in PARTS] or [root]
    inside = (path for place in parts for folder in _folders(place) for path in sorted(folder.iterdir()))
    return [p for p in inside if p.is_file() and p.suffix.lower() not in SUFFIXES and not p.name.startswith(".")]


def stamp(path: Path) -> str:
    """The sha256 of a file; what cannot be read (a link to itself) is said so."""
    try:
        return file_sha256(path)
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _check_classes(root: Path, rows: list[ListedImage]) -> None:
    classes = sorted({row.label for row in rows})
    if len(classes) < 2:
        found = f"only {classes[0]!r}" if classes else "none"
        raise UsageError(f"{root}: two class folders with images are needed at least, {found} found: DIR/CLASS/*.png")


def pixels(path: Path) -> np.ndarray:
    from counterlens.core.images.load import load_picture

    return load_picture(path).pixels
