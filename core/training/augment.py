"""Small random moves of training images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def jitter(x: Tensor, degrees: float, shift: float, scale: float) -> Tensor:
    """A small random turn, shift (share of the width) and zoom of each image; the border is repeated."""
    n = len(x)
    angle = (torch.rand(n) * 2 - 1) * degrees * torch.pi / 180
    zoom = 1 + (torch.rand(n) * 2 - 1) * scale
    move = (torch.rand(n, 2) * 2 - 1) * 2 * shift
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    theta = torch.stack([torch.stack([cos, -sin, move[:, 0]], 1), torch.stack([sin, cos, move[:, 1]], 1)], 1)
    grid = torch.nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
    return torch.nn.functional.grid_sample(x, grid.to(x), padding_mode="border", align_corners=False)


def attacked(net: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, most: float) -> Tensor:
    """The images moved by one signed gradient step from a random start, each by its own share of ``most``.

    A classifier that is trained on these has gradients along which pictures change as a person would see it.
    """
    reach = most * torch.rand(len(x), 1, 1, 1, device=x.device)
    start = (reach * (2 * torch.rand_like(x) - 1)).requires_grad_()
    loss = nn.functional.cross_entropy(net(x + start).float(), labels)
    (gradient,) = torch.autograd.grad(loss, start)
    return x + (start + 1.25 * reach * gradient.sign()).detach().clamp(-reach, reach)
