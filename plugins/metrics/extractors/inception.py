"""Inception-v3 as FID knows it: the network of 2015, which pools otherwise than torchvision's in nine blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torchvision.models import inception_v3
from torchvision.models.inception import InceptionA, InceptionC, InceptionE

from counterlens.core.diffusion.module_hooks import captured
from counterlens.core.utils import weights

if TYPE_CHECKING:
    from torch import Tensor, nn

SIDE = 299
SPATIAL = 7  # channels of the 17x17 map that spatial FID takes


def average(x: Tensor) -> Tensor:
    """The border does not count into the mean: torchvision's counts it."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def greatest(x: Tensor) -> Tensor:
    """The last block takes the greatest value, where torchvision takes the mean."""
    return F.max_pool2d(x, 3, 1, 1)


def repooled(block: nn.Module, pool: Callable[[Tensor], Tensor]) -> None:
    """The block pools in another way; its pooled branch is the last part of its answer."""
    branch: Any = block.branch_pool
    width = branch.conv.out_channels
    block.register_forward_hook(lambda _, args, out: torch.cat([out[:, :-width], branch(pool(args[0]))], 1))


def network() -> nn.Module:
    """The architecture with empty weights; 1008 outputs, as of the network of 2015."""
    net = inception_v3(weights=None, aux_logits=False, init_weights=False, transform_input=False, num_classes=1008)
    for block in net.children():
        if isinstance(block, (InceptionA, InceptionC, InceptionE)):
            repooled(block, greatest if block is net.Mixed_7c else average)
    return net


def extractor(path: Path, device: str, spatial: bool = False) -> Callable[[Tensor], Tensor]:
    """[B,3,H,W] in [0,1] -> pool3 [B,2048]; ``spatial``: [B,7*17*17] of mixed_6/conv. The resize is bilinear to
    299x299 without antialiasing, as in pytorch-fid."""
    net = network()
    weights.fill(net, weights.read_weights(path)[0], path)
    net.eval().requires_grad_(False).to(device)
    place = net.get_submodule("Mixed_6d.branch1x1" if spatial else "avgpool")

    def extract(images: Tensor) -> Tensor:
        with captured([place]) as calls:
            net(F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False) * 2 - 1)
        found = calls[-1][1]
        return (found[:, :SPATIAL] if spatial else found).flatten(1)

    return extract
