"""Every way to hand in a picture gives the same pixels; what is none is refused in one line."""

import numpy as np
import pytest
import torch
from PIL import Image

from counterlens import UsageError
from counterlens.inputs import is_one, names_of, pictures_of

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(PIXELS).permute(2, 0, 1)


class Listed(torch.utils.data.Dataset):
    """Two labelled tensors in [0,1], as torchvision's data sets give them."""

    def __len__(self):
        return 2

    def __getitem__(self, k):
        if not 0 <= k < 2:
            raise IndexError(k)
        return TENSOR / 255, k


@pytest.mark.parametrize(
    "given",
    [
        Image.fromarray(PIXELS),
        PIXELS,
        PIXELS.astype(np.float32) / 255,
        TENSOR,
        TENSOR.float() / 255,
        [PIXELS],
        PIXELS[None],
        TENSOR[None],
    ],
    ids=["PIL", "uint8", "float array", "uint8 tensor", "float tensor", "list", "batch", "batch of tensors"],
)
def test_the_same_pixels_from_everything(given):
    (found,) = pictures_of(given)
    assert np.array_equal(found.picture.pixels, PIXELS)


def test_a_file_is_read_as_the_command_line_reads_it(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    found = pictures_of([tmp_path / "a.png", PIXELS])
    assert np.array_equal(found[0].picture.pixels, PIXELS) and found[0].name.endswith("a.png")
    assert names_of(tmp_path / "a.png") == [str(tmp_path / "a.png")] and names_of([PIXELS]) is None


def test_grey_is_repeated():
    grey = PIXELS[..., 0]
    for given in (grey, torch.from_numpy(grey)[None], Image.fromarray(grey)):
        (found,) = pictures_of(given)
        assert np.array_equal(found.picture.pixels, np.repeat(grey[..., None], 3, -1))


def test_data_sets_and_loaders_bring_their_labels():
    data = Listed()
    for given in (data, torch.utils.data.DataLoader(data, batch_size=2)):
        found = pictures_of(given, ("cat", "dog"))
        assert [one.label for one in found] == ["cat", "dog"]
        assert all(np.array_equal(one.picture.pixels, PIXELS) for one in found)


def test_one_or_many():
    assert all(is_one(given) for given in ("a.png", Image.fromarray(PIXELS), PIXELS, TENSOR))
    assert not any(is_one(given) for given in ([PIXELS], PIXELS[None], Listed()))


@pytest.mark.parametrize(
    "given, words",
    [
        (PIXELS.astype(np.float32), "must be in [0,1]"),
        (np.full((4, 4, 3), np.nan), "must be in [0,1]"),
        (PIXELS.astype(np.int64), "uint8"),
        (np.zeros((4, 4, 5), np.uint8), "shape [4, 4, 5]"),
        (3, "int is no image"),
        ([], "no image"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(given, words):
    with pytest.raises(UsageError) as raised:
        pictures_of(given)
    assert words in str(raised.value) and "\n" not in str(raised.value)
