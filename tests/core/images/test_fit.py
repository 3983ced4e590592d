"""Pictures fitted to a size, and back."""

import numpy as np
import pytest

from counterlens.core.errors import UsageError
from counterlens.core.images.fit import Picture, fit


def gradient(height=24, width=32):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], -1).astype(np.uint8)


def test_crop_pad_and_squash():
    picture = Picture(gradient(24, 32))
    crop = fit(picture, 12)
    assert crop.box == (4, 0, 28, 24) and crop.note.startswith("cropped to the middle 24 x 24 of 32 x 24, shrunk")
    pad = fit(picture, 32, "pad")
    assert pad.inner == (0, 4, 32, 28) and np.array_equal(pad.pixels[4:28], picture.pixels)
    assert np.array_equal(pad.pixels[0], picture.pixels[0]) and "padded" in pad.note
    squash = fit(picture, 16, "squash")
    assert squash.pixels.shape == (16, 16, 3) and "proportions not kept" in squash.note
    assert fit(picture, (24, 32)).note == "" and fit(picture, (12, 16)).note == "shrunk from 32 x 24 to 16 x 12"
    assert fit(picture, (40, 20)).pixels.shape == (40, 20, 3)
    with pytest.raises(UsageError, match="did you mean 'crop'"):
        fit(picture, 16, "crp")


def test_shrinking_does_not_alias():
    board = (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)
    small = fit(Picture(np.stack([board] * 3, -1)), 16).pixels
    assert np.abs(small.astype(int) - 127).max() <= 3


@pytest.mark.parametrize("policy", ["crop", "pad", "squash"])
def test_a_result_goes_back_into_the_photograph(policy):
    picture = Picture(gradient(48, 64))
    fitted = fit(picture, 32, policy)
    assert np.array_equal(fitted.place(picture, fitted.pixels), picture.pixels)
    edited = np.clip(fitted.pixels.astype(int) + 20, 0, 255).astype(np.uint8)
    left, top, right, bottom = fitted.box
    change = fitted.place(picture, edited).astype(int) - picture.pixels
    assert np.median(change[top:bottom, left:right]) == 20
    change[top:bottom, left:right] = 0
    assert not change.any()
