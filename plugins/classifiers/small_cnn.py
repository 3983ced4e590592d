"""``small-cnn``: four blocks of 3x3 convolution, batch norm and ReLU, an average, one linear layer.

``small-cnn:WIDTH`` begins with WIDTH channels (default 32), which double in every block but the first; the blocks
after the first halve the picture. About 0.4 M parameters; made for pictures of 28 to 64 pixels, works on any size.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from counterlens.core.errors import UsageError

if TYPE_CHECKING:
    from torch import nn


def build(width: str, classes: int) -> nn.Module:
    """The untrained network: [B,3,h,w] -> [B,classes]."""
    from torch import nn

    if width and not (width.isdecimal() and 1 <= int(width) <= 512):
        raise UsageError(f"small-cnn:{width}: the width is a number from 1 to 512")
    channels = [3] + [int(width or 32) * factor for factor in (1, 2, 4, 8)]
    layers: list[nn.Module] = []
    for index, (before, after) in enumerate(pairwise(channels)):
        convolution = nn.Conv2d(before, after, 3, stride=2 if index else 1, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=False)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], classes))
