"""Change maps from files: grey or alpha, with a polarity that is said and never guessed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from counterlens.core.errors import UsageError
from counterlens.core.images import load
from counterlens.core.images.fit import Picture, fit

GREY = 3  # steps of 255 by which the channels of a grey picture may differ (JPEG)


@dataclass(frozen=True, eq=False)
class MapFile:
    """A map as read: ``values`` float32 [H,W] in [0,1], 1 = may change."""

    path: str
    values: np.ndarray

    def check(self, sizes: Iterable[tuple[str, int, int]], fit: str | None = None) -> None:
        """UsageError when nothing may change, or when it has another size than a picture (its name, height and width)
        and no ``fit`` was given."""
        if not self.values.any():
            raise UsageError(f"{self.path}: the map locks every pixel, so nothing can change; is its polarity right?")
        for name, *shape in sizes:
            if fit is None and tuple(shape) != self.values.shape:
                raise UsageError(
                    f"{self.path}: the map is {_size(self.values.shape)} and {name} is {_size(shape)}; "
                    "draw it at that size, or allow resizing with fit=crop, fit=pad or fit=squash"
                )

    def fitted(self, size: tuple[int, int], policy: str) -> np.ndarray:
        """The map at ``size`` (height, width), cut as a picture of its shape would be; averages, so that black stays
        black. What ``pad`` adds is kept."""
        if self.values.shape == tuple(size):
            return self.values
        eight = np.repeat((self.values * 255).astype(np.uint8)[..., None], 3, -1)
        place = fit(Picture(eight), size, policy)
        left, top, right, bottom = place.inner
        part = Image.fromarray(self.values).crop(place.box).resize((right - left, bottom - top), Image.Resampling.BOX)
        out = np.zeros(size, np.float32)
        out[top:bottom, left:right] = np.asarray(part).clip(0, 1)
        return out


def read_map(path: str | Path, white: str = "change", channel: str = "grey", snap: float = 0.02) -> MapFile:
    """Read a map. ``white`` says what white (or opaque) means, ``channel`` which values are read (grey or alpha).

    Values within ``snap`` of 0 and 1 become 0 and 1: brushes and JPEG leave almost-black behind. UsageError for
    colours, transparency that was not asked for, and values that are not numbers.
    """
    path = Path(path)
    _readable(path)
    with Image.open(path) as image:
        image.load()
        values = _alpha(path, image) if channel == "alpha" else _grey(path, image)
    if not np.isfinite(values).all():
        raise UsageError(f"{path}: the map has values that are not numbers (NaN or infinite); save it again")
    values = values if white == "change" else 1 - values
    values = np.where(values <= snap, 0, np.where(values >= 1 - snap, 1, values))
    return MapFile(str(path), values.astype(np.float32))


def _readable(path: Path) -> None:
    """The errors of photographs for what is no picture at all; floats are looked at here."""
    try:
        load.load_picture(path)
    except UsageError:
        with suppress(OSError, UnidentifiedImageError), Image.open(path) as image:
            if image.mode == "F":
                return
        raise


def _alpha(path: Path, image: Image.Image) -> np.ndarray:
    if not _transparent(image):
        raise UsageError(f"{path}: the map has no transparency to read; leave channel=alpha out")
    return np.asarray(image.convert("RGBA").getchannel("A")) / 255


def _grey(path: Path, image: Image.Image) -> np.ndarray:
    if _transparent(image) and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise UsageError(
            f"{path}: the map is partly transparent: say channel=alpha to read its transparency, or flatten it"
        )
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _deep(path, np.asarray(image).astype(np.float64), image.mode)
    rgb = np.asarray(image.convert("RGB")).astype(np.int64)
    if np.ptp(rgb, axis=-1).max() > GREY:
        kind = "a palette of colours" if image.mode == "P" else "colours"
        raise UsageError(f"{path}: a change map is grey; this one has {kind}: save it as grey")
    return rgb.mean(-1) / 255


def _deep(path: Path, values: np.ndarray, mode: str) -> np.ndarray:
    """16 bits by the format's range; floats must already be in [0, 1]."""
    if mode != "F":
        return values / 65535
    if np.isfinite(values).all() and (values.min() < 0 or values.max() > 1):
        raise UsageError(f"{path}: a map of floats must be in 0..1; this one goes {values.min():g}..{values.max():g}")
    return values


def _transparent(image: Image.Image) -> bool:
    return "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"
