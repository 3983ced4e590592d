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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from counterlens.core.digest import image_digest
from counterlens.core.errors import UsageError, unknown

MAX_PIXELS = 100_000_000
MIN_SIDE = 8
POLICIES = ("crop", "pad", "squash")
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, OverflowError)
_opening = threading.Lock()


@dataclass(frozen=True, eq=False)
class Picture:
    """A photograph: ``pixels`` uint8 [H,W,3] (read only), what was done to get it, and the digest of the pixels."""

    pixels: np.ndarray
    notes: tuple[str, ...] = ()
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        pixels = np.array(self.pixels, order="C")  # a copy: nobody else may change it
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"a picture is uint8 [H,W,3], not {pixels.dtype} {list(pixels.shape)}")
        pixels.flags.writeable = False
        object.__setattr__(self, "pixels", pixels)
        object.__setattr__(self, "digest", image_digest(pixels))


@dataclass(frozen=True, eq=False)
class Fitted:
    """A picture of the size asked for: ``pixels`` uint8 [S,T,3] and one sentence of how.

    ``box`` (left, top, right, bottom) is the part of the photograph that is seen, ``inner`` where it lies here.
    """

    pixels: np.ndarray
    note: str
    box: tuple[int, int, int, int]
    inner: tuple[int, int, int, int]

    def place(
        self, picture: Picture, edited: np.ndarray, free: np.ndarray | None = None, within: np.ndarray | None = None
    ) -> np.ndarray:
        """The photograph uint8 [H,W,3] with the change of ``edited`` (uint8 [S,T,3]) put back where it was cut out.

        Only the difference is enlarged, so pixels that did not change keep the photograph's own values. Enlarging
        spreads it a little: nothing changes where ``free`` [S,T] is 0, or ``within`` [H,W] of the photograph.
        """
        left, top, right, bottom = self.inner
        change = (edited.astype(np.float32) - self.pixels.astype(np.float32))[top:bottom, left:right]
        x0, y0, x1, y1 = self.box
        planes = [_resize(Image.fromarray(change[..., c].copy()), (x1 - x0, y1 - y0)) for c in range(3)]
        out = picture.pixels.astype(np.float32)
        out[y0:y1, x0:x1] += np.stack([np.asarray(p) for p in planes], -1)
        placed = out.round().clip(0, 255).astype(np.uint8)
        kept = np.zeros(placed.shape[:2], bool) if within is None else within <= 0
        if free is not None:
            inside = Image.fromarray((free[top:bottom, left:right] > 0).astype(np.uint8))
            kept[y0:y1, x0:x1] |= np.asarray(inside.resize((x1 - x0, y1 - y0), Image.Resampling.NEAREST)) == 0
        return np.where(kept[..., None], picture.pixels, placed)


def load(path: str | Path, max_pixels: int = MAX_PIXELS) -> Picture:
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
            return _decode(path, image)
    except PermissionError:
        raise UsageError(f"{path}: no permission to read it; change its permissions or copy it") from None
    except UsageError:
        raise
    except _DAMAGE as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{path}: damaged or cut off ({why}); get the file again") from None


def fit(picture: Picture, size: int | tuple[int, int], policy: str = "crop") -> Fitted:
    """Bring a picture to ``size`` (a side, or (height, width)): its middle, or all of it padded or squashed.

    ``crop`` keeps the largest middle part of the right proportions, ``pad`` keeps everything and draws the edges out,
    ``squash`` keeps everything and not the proportions. The note is empty if nothing had to be done.
    """
    if policy not in POLICIES:
        raise unknown("way to fit a picture", policy, POLICIES)
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < MIN_SIDE:
        raise UsageError(f"pictures of {width} x {height} are too small: at least {MIN_SIDE} px a side")
    h, w = picture.pixels.shape[:2]
    if (h, w) == (height, width):
        return Fitted(picture.pixels.copy(), "", (0, 0, w, h), (0, 0, w, h))
    if policy == "pad":
        return _pad(picture.pixels, height, width)
    box, how = (0, 0, w, h), ""
    if policy == "crop":
        box = _middle(w, h, width, height)
    if box != (0, 0, w, h):
        how = f"cropped to the middle {box[2] - box[0]} x {box[3] - box[1]} of {w} x {h}"
    elif policy == "squash" and w * height != h * width:
        how = f"squashed from {w} x {h}, proportions not kept"
    pixels = _scaled(picture.pixels, box, (width, height))
    note = _sentence(how, (box[2] - box[0], box[3] - box[1]), (width, height))
    return Fitted(pixels, note, box, (0, 0, width, height))


def _middle(w: int, h: int, width: int, height: int) -> tuple[int, int, int, int]:
    """The largest middle box of a ``w`` x ``h`` picture with the proportions of ``width`` x ``height``."""
    ratio = min(w / width, h / height)
    cw, ch = min(w, max(1, round(width * ratio))), min(h, max(1, round(height * ratio)))
    left, top = (w - cw) // 2, (h - ch) // 2
    return left, top, left + cw, top + ch


def _pad(pixels: np.ndarray, height: int, width: int) -> Fitted:
    h, w = pixels.shape[:2]
    ratio = min(width / w, height / h)
    iw, ih = max(1, round(w * ratio)), max(1, round(h * ratio))
    left, top = (width - iw) // 2, (height - ih) // 2
    inner = _scaled(pixels, (0, 0, w, h), (iw, ih))
    full = np.pad(inner, ((top, height - ih - top), (left, width - iw - left), (0, 0)), mode="edge")
    how = f"padded from {w} x {h} by drawing out the edges" if (iw, ih) != (width, height) else ""
    return Fitted(full, _sentence(how, (w, h), (iw, ih)), (0, 0, w, h), (left, top, left + iw, top + ih))


def to_tensor(pixels: np.ndarray) -> Any:
    """uint8 [H,W,3] -> float32 torch tensor [3,H,W] in [-1,1]."""
    import torch

    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1)


def _sentence(how: str, old: tuple[int, int], new: tuple[int, int]) -> str:
    """``how`` and the change of size, as one sentence."""
    verb = "enlarged" if new[0] * new[1] > old[0] * old[1] else "shrunk"
    scaled = f"{verb} from {old[0]} x {old[1]} to {new[0]} x {new[1]}" if new != old else ""
    return ", ".join(part for part in (how, scaled) if part)


def _scaled(pixels: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    return np.asarray(_resize(Image.fromarray(pixels).crop(box), size))


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


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


def _decode(path: Path, image: Image.Image) -> Picture:
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
