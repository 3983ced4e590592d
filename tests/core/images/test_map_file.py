"""Change maps as files."""

import numpy as np
import pytest
from PIL import Image

from counterlens.core.errors import UsageError
from counterlens.core.images.map_file import read_map


def saved(path, values, mode="L"):
    Image.fromarray(np.asarray(values), mode).save(path) if mode else None
    return str(path)


def test_4_polarity_is_said(tmp_path):
    values = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
    one = read_map(saved(tmp_path / "a.png", values))
    other = read_map(saved(tmp_path / "b.png", 255 - values), white="keep")
    np.testing.assert_allclose(one.values, other.values, atol=1e-7)
    assert one.values.min() == 0 and one.values.max() == 1 and one.values[0, 1] == 0  # 1/255 is a brush's dust


def test_files_that_are_no_maps_are_one_line(tmp_path):
    grey = np.full((16, 16), 90, np.uint8)
    rgb = np.zeros((16, 16, 3), np.uint8)
    rgb[..., 0] = 200
    rgba = np.dstack([grey, grey, grey, np.arange(256, dtype=np.uint8).reshape(16, 16)])
    saved(tmp_path / "rgb.png", rgb, "RGB")
    Image.fromarray(rgb).quantize(4).save(tmp_path / "palette.png")
    saved(tmp_path / "rgba.png", rgba, "RGBA")
    saved(tmp_path / "grey.png", grey)
    nan = np.full((16, 16), 0.5, np.float32)
    nan[3, 3] = np.nan
    Image.fromarray(nan).save(tmp_path / "nan.tiff")
    Image.fromarray(np.full((16, 16), 7, np.float32)).save(tmp_path / "nan2.tiff")
    for name, words, options in (
        ("rgb.png", "has colours", {}),
        ("palette.png", "palette of colours", {}),
        ("rgba.png", "partly transparent", {}),
        ("grey.png", "no transparency", {"channel": "alpha"}),
        ("nan.tiff", "not numbers", {}),
        ("nan2.tiff", "must be in 0..1", {}),
        ("none.png", "no such file", {}),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            read_map(tmp_path / name, **options)
        assert "\n" not in str(caught.value) and name in str(caught.value)
    assert read_map(tmp_path / "rgba.png", channel="alpha").values[8, 0] == pytest.approx(128 / 255)
