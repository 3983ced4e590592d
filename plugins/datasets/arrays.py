"""``npz:FILE``: arrays ``train_images``, ``train_labels``, ``val_…``, ``test_…`` (the layout of MedMNIST), or
``images`` and ``labels`` with perhaps ``groups``.

Images are [N,H,W], [N,H,W,1] or [N,H,W,3] of 8 bits, 16 bits (scaled by the range of the format) or floats in [0,1].
``labels=a,b`` names the classes of labels that are numbers. An image of the test part that is in another part too is
refused; one that is in train and validation counts as train.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from counterlens.core.data.dataset import PARTS, Dataset
from counterlens.core.data.selection import COMMON, ListedImage, dataset_of, refuse_shared, shared
from counterlens.core.errors import UsageError
from counterlens.core.utils.digest import image_digest
from counterlens.core.utils.uri import Uri


def open_dataset(uri: Uri) -> Dataset:
    uri.only(*COMMON, "labels")
    path = Path(uri.path).expanduser()
    if not path.is_file():
        raise UsageError(f"{uri}: there is no such file; give an archive of arrays (numpy.savez)")
    arrays = _load(path)
    found = {name.removesuffix("images").rstrip("_"): name for name in arrays if name.endswith("images")}
    if not found:
        raise UsageError(
            f"{path}: no array of images, only {', '.join(arrays) or 'nothing'}; images and labels are needed"
        )
    names, rows = uri.names("labels"), []
    order: list[str] = list(names)
    for prefix, name in found.items():
        images, labels, groups = arrays[name], *_beside(path, arrays, prefix, len(arrays[name]))
        texts = [_text(path, label, names) for label in labels]
        order += sorted({text for text in texts if text not in order})
        rows += list(_rows(prefix, images, texts, groups, path))
    return dataset_of(uri, _apart(uri, rows), order)


def _apart(uri: Uri, rows: list[ListedImage]) -> list[ListedImage]:
    """The rows without an image in two parts: one of the test part is refused, one that is in train and in validation
    (published archives have some) stays in train alone."""
    twins = shared(rows)
    refuse_shared(uri, [found for found in twins if any(row.part == "test" for row in found)])
    if uri.text("split") == "all":
        return rows
    double = {id(row) for found in twins for row in found if row.part == "validation"}
    return [row for row in rows if id(row) not in double]


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise UsageError(f"{path}: not an archive of plain arrays ({str(error).splitlines()[0]})") from None


def _beside(path: Path, arrays: dict[str, np.ndarray], prefix: str, count: int) -> tuple[np.ndarray, Any]:
    """The labels, and the groups if there are any, of an array of images."""
    stem = f"{prefix}_" if prefix else ""
    labels = arrays.get(f"{stem}labels")
    if labels is None or labels.reshape(len(labels), -1).shape != (count, 1):
        raise UsageError(f"{path}: {stem}labels does not have one label for each of {count} images of {stem}images")
    groups = arrays.get(f"{stem}groups")
    return labels.reshape(-1), [""] * count if groups is None else [str(group) for group in groups]


def _text(path: Path, label: Any, names: tuple[str, ...]) -> str:
    if not names or isinstance(label, (str, np.str_)):
        return str(label)
    if not 0 <= int(label) < len(names):
        raise UsageError(f"{path}: label {label} has no name among labels={','.join(names)}")
    return names[int(label)]


def _rows(prefix: str, images: np.ndarray, labels: list[str], groups: list[str], path: Path) -> Iterator[ListedImage]:
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] not in (1, 3)):
        raise UsageError(
            f"{path}: images of the shape {list(images.shape)}: [N,H,W], [N,H,W,1] or [N,H,W,3] are needed"
        )
    part = PARTS.get(prefix, "")
    for k, (picture, label, group) in enumerate(zip(images, labels, groups, strict=True)):
        name = f"{prefix}{k:06d}"
        yield ListedImage(
            id=f"{label}/{name}",
            label=label,
            name=name,
            read=partial(_pixels, picture, path),
            stamp=partial(image_digest, picture),
            part=part,
            group=group,
        )


def _pixels(picture: np.ndarray, path: Path) -> np.ndarray:
    """uint8 [H,W,3], by the range of the type and not of the picture."""
    if picture.dtype == np.uint16:
        picture = (picture * (255 / 65535)).round()
    elif picture.dtype.kind == "f":
        if not np.isfinite(picture).all() or picture.min() < 0 or picture.max() > 1:
            raise UsageError(
                f"{path}: images of floats are read as [0,1], these reach {picture.min():g} to {picture.max():g}"
            )
        picture = (picture * 255).round()
    elif picture.dtype != np.uint8:
        raise UsageError(f"{path}: images of {picture.dtype}: uint8, uint16 or floats in [0,1] are needed")
    grey = picture.reshape(*picture.shape[:2], -1).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(grey, (*grey.shape[:2], 3)))
