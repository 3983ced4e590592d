"""What a scanner drew around a picture: white wedges turned black, and a square cut out of what is left."""

from __future__ import annotations

import numpy as np
from PIL import Image

CROPS = ("none", "square", "pad")
WHITE = 240  # of 255: a wedge is white up to what JPEG makes of its edge


def trimmed(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H,W,3] whose solid white areas that touch the border are black.

    Thin white structures that merely reach the border stay: an opening removes them from the mask first.
    """
    from scipy import ndimage

    white = pixels.min(-1) >= WHITE
    if not (white[0].any() or white[-1].any() or white[:, 0].any() or white[:, -1].any()):
        return pixels
    side = max(3, min(white.shape) // 100)
    # outside counts as white, so that a thin strip along the border is as thick as a wedge
    padded = np.pad(white, side, constant_values=True)
    solid = ndimage.binary_opening(padded, np.ones((side, side), bool))
    solid[:side], solid[-side:], solid[:, :side], solid[:, -side:] = True, True, True, True
    areas, _ = ndimage.label(solid)
    wedge = areas == areas[0, 0]  # what hangs together with the outside
    grown = ndimage.binary_dilation(wedge, iterations=side)[side:-side, side:-side]
    own = wedge[side:-side, side:-side]
    # the soft edge that JPEG left around a wedge goes too, but nothing where there is no wedge
    near = ndimage.binary_dilation(own, iterations=side) & grown
    out = pixels.copy()
    out[near] = 0
    return out


def cropped(pixels: np.ndarray, how: str) -> np.ndarray:
    """``square``: the largest middle square; ``pad``: all of it on a black square; ``none``: as it is."""
    height, width = pixels.shape[:2]
    if how == "none" or height == width:
        return pixels
    if how == "square":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return np.ascontiguousarray(pixels[top : top + side, left : left + side])
    side = max(height, width)
    whole = Image.new("RGB", (side, side))
    whole.paste(Image.fromarray(pixels), ((side - width) // 2, (side - height) // 2))
    return np.asarray(whole)
