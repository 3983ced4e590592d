"""Random crops: each image by its own seed."""

import torch

from counterlens.core.images.random_crops import crops

IMAGE = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))


def test_an_image_is_cropped_alike_in_any_company():
    both = crops(IMAGE, 3, 8, 0.3, 0.1, [5, 7])
    assert both.shape == (6, 3, 8, 8)
    assert torch.equal(both[3:], crops(IMAGE[1:], 3, 8, 0.3, 0.1, [7]))
    assert not torch.equal(both[:3], crops(IMAGE[:1], 3, 8, 0.3, 0.1, [6]))


def test_a_constant_stays_and_the_gradient_reaches_the_picture():
    grey = torch.full((1, 3, 16, 16), 0.5, requires_grad=True)
    seen = crops(grey, 4, 8, 1.0, 0.0, [1])
    torch.testing.assert_close(seen, torch.full_like(seen, 0.5))
    seen.sum().backward()
    assert grey.grad.abs().sum() > 0


def test_a_small_picture_is_seen_whole():
    small = IMAGE[:1, :, :8, :8]
    torch.testing.assert_close(crops(small, 2, 8, 0.3, 0.0, [3]), small.expand(2, -1, -1, -1))
