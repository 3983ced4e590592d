"""Pictures out of whatever a notebook has at hand: paths, PIL images, arrays, tensors, data sets, loaders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from counterlens.core.data.source_image import SourceImage

KINDS = (
    "a path, a URI of labelled images, a PIL image, an array [H,W,3] or [H,W], a tensor [3,H,W], a list or batch of "
    "these, a torch data set or loader"
)


def is_one(images: Any) -> bool:
    """Whether the argument is a single picture, so that a single result is what a caller expects."""
    if isinstance(images, (str, PathLike)) or hasattr(images, "convert"):
        return True
    shape = getattr(images, "shape", None)
    return shape is not None and len(shape) <= 3


def names_of(images: Any) -> list[str] | None:
    """The paths and URIs, where the argument is one or a list of nothing else; the engine reads those itself."""
    if isinstance(images, (str, PathLike)):
        return [fspath(images)]
    if isinstance(images, (list, tuple)) and images and all(isinstance(one, (str, PathLike)) for one in images):
        return [fspath(one) for one in images]
    return None


def pictures_of(images: Any, labels: Sequence[str] = ()) -> list[SourceImage]:
    """Every picture of ``images`` with its name (its place) and, where a data set gives one, its label.

    ``labels``: the classifier's, for data sets whose labels are numbers. UsageError for what is no picture.
    """
    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.images.fit import Picture
    from counterlens.core.images.load import decode_picture, load_picture

    found = []
    for k, (one, label) in enumerate(_each(images)):
        name = getattr(one, "filename", "") or f"image {k}"
        if isinstance(one, (str, PathLike)):
            picture, name = load_picture(fspath(one)), fspath(one)
        elif hasattr(one, "convert"):  # PIL: read as its file would be
            picture = decode_picture(Path(name), one)
        else:
            picture = Picture(_pixels(one, k))
        found.append(SourceImage(name=name, picture=picture, label=_label(label, labels)))
    if not found:
        raise UsageError(f"no image: give {KINDS}")
    return found


def _each(images: Any) -> Iterator[tuple[Any, Any]]:
    """Pictures one by one, with what came beside each (None for nothing)."""
    shape = getattr(images, "shape", None)
    if isinstance(images, (str, PathLike)) or hasattr(images, "convert") or (shape is not None and len(shape) <= 3):
        yield images, None
    elif shape is not None:
        yield from ((one, None) for one in images)
    elif isinstance(images, (list, tuple)):
        for one in images:
            yield from _with_label(one)
    elif hasattr(images, "__getitem__") and hasattr(images, "__len__"):  # a map-style data set has no own iterator
        for k in range(len(images)):
            yield from _with_label(images[k])
    elif isinstance(images, Iterable):
        for one in images:
            yield from _with_label(one)
    else:
        raise UsageError(f"{type(images).__name__} is no image: give {KINDS}")


def _with_label(one: Any) -> Iterator[tuple[Any, Any]]:
    """A picture alone, with its label, or a loader's batch of both."""
    if not (isinstance(one, (list, tuple)) and len(one) == 2):
        yield from _each(one)
        return
    picture, label = one
    if len(getattr(picture, "shape", ())) == 4:
        yield from zip(picture, label, strict=True)
    else:
        yield picture, label


def _label(label: Any, labels: Sequence[str]) -> str | None:
    if label is None or isinstance(label, str):
        return label
    index = int(label)
    return labels[index] if 0 <= index < len(labels) else str(index)


def _pixels(one: Any, k: int) -> np.ndarray:
    """uint8 [H,W,3] of an array or a tensor; numbers with a fraction are in [0,1]."""
    import numpy as np

    if hasattr(one, "detach"):
        array = one.detach().cpu().float().numpy() if one.is_floating_point() else one.cpu().numpy()
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array
    else:
        array = np.asarray(one)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3):
        raise UsageError(
            f"image {k}: shape {list(array.shape)}: give an array [H,W,3] or [H,W], or a tensor [3,H,W] or [1,H,W]"
        )
    if array.dtype != np.uint8:
        array = _from_unit_range(array, k)
    return np.repeat(array, 3, -1) if array.shape[-1] == 1 else array


def _from_unit_range(array: np.ndarray, k: int) -> np.ndarray:
    import numpy as np

    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"image {k}: {array.dtype}: whole numbers are read as 0 to 255 when they are uint8")
    if not np.isfinite(array).all():
        raise UsageError(f"image {k}: it has values that are not numbers (NaN or infinite); they must be in [0,1]")
    if array.min() < 0 or array.max() > 1:
        raise UsageError(
            f"image {k}: values from {float(array.min()):.3g} to {float(array.max()):.3g}: numbers with a fraction "
            "must be in [0,1], before any normalisation (the classifier's own preprocessing is given with it)"
        )
    return (array * 255).round().astype(np.uint8)
