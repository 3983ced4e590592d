"""A picture fitted to a network's size, and the way back. Resizing is Pillow's LANCZOS, which does not alias."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from counterlens.core.errors import UsageError, unknown
from counterlens.core.utils.digest import image_digest

MIN_SIDE = 8
POLICIES = ("crop", "pad", "squash")


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


def _sentence(how: str, old: tuple[int, int], new: tuple[int, int]) -> str:
    """``how`` and the change of size, as one sentence."""
    verb = "enlarged" if new[0] * new[1] > old[0] * old[1] else "shrunk"
    scaled = f"{verb} from {old[0]} x {old[1]} to {new[0]} x {new[1]}" if new != old else ""
    return ", ".join(part for part in (how, scaled) if part)


def _scaled(pixels: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    return np.asarray(_resize(Image.fromarray(pixels).crop(box), size))


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
