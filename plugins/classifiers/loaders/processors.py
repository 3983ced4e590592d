"""The preprocessing contract that an image processor of transformers really fulfils: it is asked, not read.

Its configuration has many switches (rescaling twice, an offset, channels exchanged, nothing at all), and each class
its own. Pictures of one colour tell what becomes of a colour; a picture of noise that it is the same everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from counterlens.core.errors import UsageError
from counterlens.core.utils.uri import Uri

if TYPE_CHECKING:
    from counterlens.core.classifiers.preprocessing import Preprocessing

SIDE, OTHER = 96, 80  # pixels of the pictures that it is asked about
COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 150, 210]], np.uint8)
RESAMPLE = {0: "nearest", 3: "bicubic-antialias", 1: "bicubic-antialias"}  # Pillow's numbers; else bilinear
NAMES = {"nearest": "nearest", "cubic": "bicubic-antialias", "lanczos": "bicubic-antialias"}


def contract_of(uri: Uri, labels: tuple[str, ...], processor: Any) -> Preprocessing:
    """Size, mean, std and order of the colours, measured; UsageError when it does something that is none of these."""
    from counterlens.core.classifiers.preprocessing import Preprocessing

    seen = [_answer(uri, processor, np.broadcast_to(colour, (SIDE, SIDE, 3))) for colour in COLOURS]
    height, width = seen[0].shape[-2:]
    found = np.stack([one[:, height // 2, width // 2] for one in seen])  # [colours, channels]
    shift, gain = found[0], found[1:4] - found[0]  # gain[i, o]: what channel i at 255 adds to channel o of the network
    order, scale = _order(uri, gain)
    if np.abs(shift + (COLOURS[4] / 255.0) @ gain - found[4]).max() > 0.02 * max(1e-3, np.abs(gain).max()):
        raise _odd(uri, processor, "its answer is no multiple of the colours")
    # (x - mean) / std = x * scale + shift
    mean, std = tuple(float(m) for m in -shift / scale), tuple(float(s) for s in 1 / scale)
    other = _answer(uri, processor, np.broadcast_to(COLOURS[4], (OTHER, OTHER, 3))).shape[-2:]
    size = (height, width) if other == (height, width) else None  # a picture of another size comes out alike
    return Preprocessing(
        labels=labels, size=size, mean=mean, std=std, resize=_resize(processor), channels=len(scale), order=order
    )


def _resize(processor: Any) -> str:
    resample = getattr(processor, "resample", None)
    name = str(getattr(resample, "name", resample)).lower()
    if name.isdecimal():
        return RESAMPLE.get(int(name), "bilinear-antialias")
    return next((way for word, way in NAMES.items() if word in name), "bilinear-antialias")


def _order(uri: Uri, gain: np.ndarray) -> tuple[str, np.ndarray]:
    """The order in which the colours are delivered, and the factor of each channel of the network."""
    most = np.abs(gain).max()
    if gain.shape[1] == 1 and most > 0:
        return "rgb", gain.sum(0)  # grey: all colours into one
    for order, turned in (("rgb", gain), ("bgr", gain[::-1])):
        if gain.shape[1] == 3 and np.abs(turned - np.diag(np.diag(turned))).max() < 0.02 * most:
            return order, np.diag(turned)
    raise UsageError(f"{uri}: its image processor mixes the colours in a way that is not known; give ?mean=…&std=…")


def _answer(uri: Uri, processor: Any, pixels: np.ndarray) -> np.ndarray:
    """What the processor makes of a picture: [channels,h,w], before any batch."""
    from PIL import Image

    try:
        out = processor(Image.fromarray(np.ascontiguousarray(pixels)), return_tensors="np").pixel_values
    except Exception as error:  # processors of all kinds, some of them only for video, text or segmentation
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{uri}: its {type(processor).__name__} does not take a plain picture ({line})") from error
    found = np.asarray(out, np.float64)
    while found.ndim > 3:
        found = found[0]
    if found.ndim != 3 or not np.isfinite(found).all():
        raise _odd(uri, processor, f"it answers with {list(np.shape(out))}")
    return found if found.shape[0] in (1, 3) else found.transpose(2, 0, 1)


def _odd(uri: Uri, processor: Any, why: str) -> UsageError:
    return UsageError(
        f"{uri}: its {type(processor).__name__} cannot be followed ({why}); say what the network takes: "
        "?mean=…&std=…&size=…"
    )
