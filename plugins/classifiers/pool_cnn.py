"""``pool-cnn``: 5x5 convolutions, group norm, GELU and max pooling, an average and a maximum, two linear layers.

Made to differ from ``small-cnn`` in all that networks learn their shortcuts by, so that one can judge the other.
``pool-cnn:WIDTH`` begins with WIDTH channels (default 16).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from counterlens.core.errors import UsageError

if TYPE_CHECKING:
    from torch import nn


def build(width: str, classes: int) -> nn.Module:
    """The untrained network: [B,3,h,w] -> [B,classes], for pictures of 16 pixels a side at least."""
    from torch import nn

    if width and not (width.isdecimal() and 1 <= int(width) <= 256):
        raise UsageError(f"pool-cnn:{width}: the width is a number from 1 to 256")
    w = int(width or 16)
    layers: list[nn.Module] = []
    for i, o in ((3, w), (w, 2 * w), (2 * w, 3 * w), (3 * w, 4 * w)):
        layers += [nn.Conv2d(i, o, 5, 1, 2), nn.GroupNorm(1 if o % 4 else 4, o), nn.GELU(), nn.MaxPool2d(2)]
    head = [nn.Linear(8 * w, 4 * w), nn.GELU(), nn.Linear(4 * w, classes)]
    return nn.Sequential(*layers, _two_pools(), *head)


def _two_pools() -> nn.Module:
    import torch
    from torch import Tensor, nn

    class TwoPools(nn.Module):
        """[B,C,h,w] -> [B,2C]: average and maximum."""

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)

    return TwoPools()
