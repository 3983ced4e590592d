"""Every mode and every bad file a user may bring."""

import os
import warnings

import numpy as np
import pytest
from PIL import Image

from counterlens.core.errors import UsageError
from counterlens.core.images.fit import Picture
from counterlens.core.images.load import load_picture


def gradient(height=24, width=32):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], -1).astype(np.uint8)


def saved(tmp_path, image, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def refused(path, *words, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UsageError) as caught:
            load_picture(path, **options)
    text = str(caught.value)
    assert "\n" not in text and str(path) in text
    assert all(word in text for word in words), text


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tiff", "a.bmp"])
def test_lossless_formats_are_read_exactly(tmp_path, name):
    picture = load_picture(
        saved(tmp_path, Image.fromarray(gradient()), name, **({"lossless": True} if "webp" in name else {}))
    )
    assert np.array_equal(picture.pixels, gradient()) and picture.notes == ()
    assert picture.digest == Picture(gradient()).digest and not picture.pixels.flags.writeable


def test_exif_orientation_is_applied_and_said(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = load_picture(saved(tmp_path, Image.fromarray(gradient()), "a.png", exif=exif))
    assert np.array_equal(picture.pixels, np.rot90(gradient(), -1)) and "upright" in picture.notes[0]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_are_put_on_white(tmp_path, mode):
    image = Image.fromarray(gradient()).convert(mode)
    image.putalpha(0)
    picture = load_picture(saved(tmp_path, image, "a.png"))
    assert (picture.pixels == 255).all() and "white" in picture.notes[0]


def test_an_opaque_alpha_changes_nothing(tmp_path):
    picture = load_picture(saved(tmp_path, Image.fromarray(gradient()).convert("RGBA"), "a.png"))
    assert np.array_equal(picture.pixels, gradient()) and picture.notes == ()


def test_transparent_palette(tmp_path):
    image = Image.new("P", (16, 16), 3)
    image.putpalette([0, 0, 0] * 256)
    picture = load_picture(saved(tmp_path, image, "a.png", transparency=3))
    assert (picture.pixels == 255).all()


@pytest.mark.parametrize(("mode", "word"), [("L", "grey"), ("P", "palette"), ("1", "black"), ("CMYK", "CMYK")])
def test_other_modes_become_rgb_and_say_so(tmp_path, mode, word):
    name = "a.tiff" if mode == "CMYK" else "a.png"
    picture = load_picture(saved(tmp_path, Image.fromarray(gradient()).convert(mode), name))
    assert picture.pixels.shape == (24, 32, 3) and word in picture.notes[0]


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_sixteen_bits_are_scaled_by_their_range(tmp_path, name):
    values = np.linspace(0, 65535, 16 * 16).reshape(16, 16).astype(np.uint16)
    picture = load_picture(saved(tmp_path, Image.fromarray(values), name))
    assert np.abs(picture.pixels[..., 0] - values / 257).max() <= 0.5 and "65535" in picture.notes[0]


def test_a_dark_sixteen_bit_picture_is_pointed_out(tmp_path):
    picture = load_picture(saved(tmp_path, Image.fromarray(np.full((16, 16), 4095, np.uint16)), "a.png"))
    assert "largest value is 4095" in picture.notes[0]


def test_integers_floats_and_what_has_no_range(tmp_path):
    deep = load_picture(saved(tmp_path, Image.fromarray(np.full((16, 16), 65535, np.int32)), "a.tiff"))
    assert (deep.pixels == 255).all()
    unit = load_picture(saved(tmp_path, Image.fromarray(np.full((16, 16), 0.5, np.float32)), "b.tiff"))
    assert (unit.pixels == 128).all()
    refused(saved(tmp_path, Image.fromarray(np.full((16, 16), 1e6, np.float32)), "c.tiff"), "no known range")
    refused(saved(tmp_path, Image.fromarray(np.full((16, 16), 70000, np.int32)), "d.tiff"), "no known range")


@pytest.mark.parametrize(("name", "word"), [("a.gif", "frame"), ("a.tiff", "page"), ("a.webp", "frame")])
def test_first_of_many(tmp_path, name, word):
    frames = [Image.new("RGB", (16, 16), c) for c in ("red", "blue", "lime")]
    picture = load_picture(saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:]))
    assert picture.pixels[0, 0, 0] > 200 and f"first {word} of 3" in picture.notes


def test_files_that_are_no_pictures(tmp_path):
    refused(tmp_path / "no.png", "no such file")
    refused(tmp_path, "folder")
    for name, content, word in (
        ("t.png", b"hello, this is text\n", "text file"),
        ("e.png", b"", "empty"),
        ("a.svg", b"<?xml version='1.0'?>\n<svg xmlns='x'></svg>", "SVG"),
        ("b.png", b"  <svg></svg>", "SVG"),
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        ("r.png", bytes(range(256)), "known format"),
    ):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, word)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tiff", "a.gif"])
def test_cut_off_files(tmp_path, name):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path = saved(tmp_path, noise, name)
    for share in (0.6, 0.1, 0.01):
        (tmp_path / f"cut-{name}").write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        refused(tmp_path / f"cut-{name}")


def test_too_small_and_too_large(tmp_path, monkeypatch):
    refused(saved(tmp_path, Image.new("RGB", (1, 1)), "one.png"), "too small", "8 px")
    refused(saved(tmp_path, Image.new("RGB", (20, 20)), "b.png"), "limit", "-resize 86%", max_pixels=300)
    huge = saved(tmp_path, Image.new("1", (20_000, 20_000)), "huge.png")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    refused(huge, "20000 x 20000", "100 million", "-resize 50%")
    assert Image.MAX_IMAGE_PIXELS is not None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", "ordinary file")


def test_no_permission(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("RGB", (16, 16)), "a.png")

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", denied)
    refused(path, "no permission")
