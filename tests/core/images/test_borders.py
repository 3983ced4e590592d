"""White wedges go, thin white lines stay, and squares are cut from the middle."""

import numpy as np
import pytest

from counterlens.core.images.borders import cropped, trimmed


def test_a_wedge_goes_and_what_merely_reaches_the_border_stays():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 120, (200, 300, 3), np.uint8)
    wedge = np.arange(300)[None] > 300 - 3 * (40 - np.arange(200)[:, None])  # a triangle in the upper right corner
    pixels[wedge] = 255
    pixels[100, :] = 255  # a layer from side to side
    pixels[150:170, 140:160] = 255  # a bright spot inside
    out = trimmed(pixels)
    assert (out[wedge] == 0).all()
    assert (out[100, :] == 255).all() and (out[150:170, 140:160] == 255).all()
    assert (out != pixels).any(-1).mean() < wedge.mean() + 0.02
    assert (trimmed(out) == out).all()


def test_a_picture_without_white_is_itself():
    pixels = np.full((20, 30, 3), 100, np.uint8)
    assert trimmed(pixels) is pixels


@pytest.mark.parametrize(("how", "shape"), [("none", (4, 8, 3)), ("square", (4, 4, 3)), ("pad", (8, 8, 3))])
def test_squares(how, shape):
    pixels = np.arange(4 * 8 * 3, dtype=np.uint8).reshape(4, 8, 3)
    out = cropped(pixels, how)
    assert out.shape == shape
    if how == "square":
        assert (out == pixels[:, 2:6]).all()
    if how == "pad":
        assert (out[2:6] == pixels).all() and not out[:2].any() and not out[6:].any()
