"""Small random moves of training images."""

import torch

from counterlens.core.training.augment import attacked, jitter

IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_no_move_is_the_image_and_a_move_stays_in_range():
    torch.testing.assert_close(jitter(IMAGES, 0, 0, 0), IMAGES, atol=1e-5, rtol=0)
    moved = jitter(IMAGES, 10, 0.1, 0.1)
    assert not torch.allclose(moved, IMAGES, atol=0.05)
    assert moved.min() >= IMAGES.min() - 1e-6 and moved.max() <= IMAGES.max() + 1e-6


def test_an_attack_stays_within_its_reach_and_raises_the_loss():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 2))
    labels = torch.tensor([0, 1, 0, 1])
    found = attacked(net, IMAGES, labels, 0.1)
    assert (found - IMAGES).abs().max() <= 0.1 + 1e-6
    loss = torch.nn.functional.cross_entropy
    assert loss(net(found), labels) > loss(net(IMAGES), labels)
