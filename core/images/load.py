"""Photographs in, arrays out: whatever is on the disk becomes uint8 ``[H,W,3]``, and what was done to it is said.

Resizing is Pillow's LANCZOS, which widens its filter when it shrinks and so does not alias.
"""

from __future__ import annotations

import stat
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from counterlens.core.errors import UsageError
from counterlens.core.images.fit import MIN_SIDE, Picture

MAX_PIXELS = 100_000_000
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, OverflowError)
_opening = threading.Lock()


def load_picture(path: str | Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a photograph. UsageError, one line with what to do, for anything that is not a usable one.

    The size is checked in the header, before anything is decoded.
    """
    path = Path(path)
    _check_file(path)
    try:
        with path.open("rb") as file, _quiet():
            try:
                image = Image.open(file)
            except UnidentifiedImageError:
                raise UsageError(_what_is(path)) from None
            _check_size(path, image, max_pixels)
            return decode_picture(path, image)
    except PermissionError:
        raise UsageError(f"{path}: no permission to read it; change its permissions or copy it") from None
    except UsageError:
        raise
    except _DAMAGE as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{path}: damaged or cut off ({why}); get the file again") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, and Pillow's own limit off: it speaks of attacks, and does not say the picture's size; ours does."""
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _check_file(path: Path) -> None:
    try:
        found = path.stat()
    except PermissionError:
        raise UsageError(f"{path}: no permission to read its folder; change its permissions or copy it") from None
    except (OSError, ValueError):
        raise UsageError(f"{path}: there is no such file; check the path") from None
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{path}: a folder, not a picture; name its pictures, such as {path / '*.png'}")
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{path}: not an ordinary file; give a picture file")
    if found.st_size == 0:
        raise UsageError(f"{path}: the file is empty; get it again")


def _check_size(path: Path, image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if image.format in {"EPS", "WMF"}:  # decoding these would start another program
        raise UsageError(f"{path}: {image.format} is a drawing, which is not supported; export it as PNG")
    if width * height > max_pixels:
        share = max(1, int(100 * (max_pixels / (width * height)) ** 0.5))
        raise UsageError(
            f"{path}: {width} x {height} is over the limit of {max_pixels / 1e6:g} million pixels; "
            f"shrink it first, for example: magick {path.name} -resize {share}% smaller.png"
        )
    if min(width, height) < MIN_SIDE:
        raise UsageError(f"{path}: {width} x {height} is too small; a picture has at least {MIN_SIDE} px a side")


def _what_is(path: Path) -> str:
    """Why Pillow does not know the file."""
    head = path.open("rb").read(512)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text) or path.suffix.lower() == ".svg":
        return f"{path}: SVG is a drawing, which is not supported; export it as PNG"
    if head[4:8] == b"ftyp" or path.suffix.lower() in {".heic", ".heif"}:
        return f"{path}: HEIC pictures are not supported; export it as JPEG or PNG"
    if head and not any(b == 0 or (b < 32 and b not in b"\t\n\r\f\x1b") for b in head):
        return f"{path}: a text file, not a picture; give a PNG, JPEG, WebP or TIFF"
    return f"{path}: not a picture of a known format, or damaged; give a PNG, JPEG, WebP or TIFF"


def decode_picture(path: Path, image: Image.Image) -> Picture:
    notes = []
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # MPO: a telephone's JPEG with a preview inside
        which = "page" if image.format == "TIFF" else "frame"
        notes.append(f"first {which} of {image.n_frames}")  # type: ignore[attr-defined]
    if image.mode in {"RGB", "RGBA", "RGBX"} and any(";16" in str(tile) for tile in getattr(image, "tile", ())):
        notes.append("16-bit colour, the upper 8 bits kept")
    image.load()
    if image.getexif().get(0x0112, 1) in range(2, 9):
        image = ImageOps.exif_transpose(image)
        notes.append("turned upright as its EXIF orientation says")
    image, more = _to_rgb(path, image)
    return Picture(np.asarray(image), (*notes, *more))


def _to_rgb(path: Path, image: Image.Image) -> tuple[Image.Image, list[str]]:
    mode = image.mode
    if mode == "I" or mode == "F" or mode.startswith("I;"):
        grey, note = _deep(path, np.asarray(image), mode)
        return Image.fromarray(grey).convert("RGB"), [note]
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        return _on_white(image)
    notes = {"L": "grey", "1": "black and white", "P": "palette", "CMYK": "CMYK, without its colour profile"}
    said = [f"{notes.get(mode, mode)} turned into RGB"] if mode != "RGB" else []
    return image.convert("RGB"), said


def _on_white(image: Image.Image) -> tuple[Image.Image, list[str]]:
    full = image.convert("RGBA")
    if full.getchannel("A").getextrema() == (255, 255):
        return full.convert("RGB"), []
    white = Image.new("RGBA", full.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, full).convert("RGB"), ["transparent parts put on white"]


def _deep(path: Path, values: np.ndarray, mode: str) -> tuple[np.ndarray, str]:
    """More than 8 bits of grey -> uint8 [H,W], by the range of the format and not of the picture."""
    low, high = float(values.min()), float(values.max())
    if mode == "F" and low >= 0 and high <= 1:
        return (values * 255).round().astype(np.uint8), "grey of floats in 0..1 turned into RGB"
    if mode == "F" or low < 0 or high > 65535:
        hint = "save it with 8 or 16 bits a channel"
        raise UsageError(f"{path}: grey values from {low:g} to {high:g} have no known range; {hint}")
    grey = (values.astype(np.float64) * (255 / 65535)).round().astype(np.uint8)
    dark = f"; its largest value is {high:g}, so it is dark: rescale it if it has fewer bits" if high < 8192 else ""
    return grey, f"16-bit grey scaled from 0..65535 to 0..255, turned into RGB{dark}"
