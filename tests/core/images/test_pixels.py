"""Every conversion of pictures, there and back."""

import numpy as np
import pytest
import torch

from counterlens.core.images import pixels
from counterlens.core.images.pixels import as_saved, to_tensor

ALL = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)


def test_there_and_back_changes_nothing():
    image = pixels.to_tensor(ALL)
    assert image.shape == (3, 16, 16) and image.dtype == torch.float32
    assert (float(image.min()), float(image.max())) == (-1, 1)
    assert (pixels.to_pixels(image) == ALL).all()
    assert (pixels.to_pixels(pixels.to_tensor(ALL[None])) == ALL[None]).all()
    torch.testing.assert_close(pixels.signed(pixels.to_unit_tensor(ALL)), image)
    assert torch.equal(pixels.as_saved(image[None])[0], pixels.to_unit_tensor(ALL))
    assert pixels.to_unit_tensor(ALL[..., 0]).shape == (1, 16, 16)


def test_what_is_out_of_range_is_clamped_and_keeps_its_gradient():
    image = torch.tensor([[[-2.0, 0.5, 3.0]]], requires_grad=True)
    assert pixels.clamped(image).tolist() == [[[-1.0, 0.5, 1.0]]]
    pixels.clamped(image).sum().backward()
    assert image.grad.tolist() == [[[1.0, 1.0, 1.0]]]
    assert pixels.to_bytes(image.detach()).tolist() == [[[0, 191, 255]]]


def test_psnr_is_ten_decibels_for_a_tenth_of_the_squared_range():
    x = torch.zeros(3, 3, 4, 4)
    y = torch.stack([x[0], x[0] + 0.1**0.5, x[0] + 0.1])
    assert pixels.psnr(x, y).tolist() == pytest.approx([100, 10, 20], abs=1e-4)
    assert pixels.decibels(torch.tensor([float("nan")])).isnan().all()


def test_a_difference_is_signed_around_grey():
    before, after = np.full((1, 3, 3), 100, np.uint8), np.full((1, 3, 3), 100, np.uint8)
    after[0, 1], after[0, 2] = 110, 90
    assert np.asarray(pixels.difference(before, after, 2.0))[0, :, 0].tolist() == [128, 148, 108]


def test_a_contact_sheet_has_every_image_in_reading_order():
    images = torch.linspace(-1, 1, 5).view(5, 1, 1, 1).expand(5, 3, 2, 3)
    sheet = np.asarray(pixels.contact_sheet(images, columns=3, zoom=2))
    assert sheet.shape == (8, 18, 3)
    assert sheet[0, ::6, 0].tolist() == [0, 64, 128] and sheet[4, ::6, 0].tolist() == [191, 255, 0]


def test_what_is_scored_is_what_is_saved():
    x = torch.tensor([[[[-1.3, 0.0, 0.004, 1.2]]]])
    torch.testing.assert_close(as_saved(x) * 255, torch.tensor([[[[0.0, 128.0, 128.0, 255.0]]]]))


def gradient(height=24, width=32):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], -1).astype(np.uint8)


def test_tensor():
    tensor = to_tensor(gradient())
    assert tensor.shape == (3, 24, 32) and tensor.min() >= -1 and tensor.max() <= 1
