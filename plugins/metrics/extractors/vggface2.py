"""ResNet-50 of VGGFace2: its blocks stride in their first convolution, and the first pooling rounds up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet50

from counterlens.core.utils import weights

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 224
MEAN_BGR = (91.4953, 103.8827, 131.0912)  # of pictures in [0,255]


def network() -> nn.Module:
    """The architecture without its last layer; the keys of its weights are torchvision's."""
    net = resnet50(weights=None)
    net.fc = nn.Identity()  # type: ignore[assignment]
    net.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
    for layer in (net.layer2, net.layer3, net.layer4):
        layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    return net


def extractor(path: Path, device: str, spatial: bool = False) -> Callable[[Tensor], Tensor]:
    """Faces [B,3,H,W] in [0,1] -> [B,2048]."""
    net = network()
    tensors = {key: value for key, value in weights.read_weights(path)[0].items() if not key.startswith("fc.")}
    weights.fill(net, tensors, path)
    net.eval().requires_grad_(False).to(device)

    def extract(images: Tensor) -> Tensor:
        sized = F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        return net(sized.flip(1) * 255 - sized.new_tensor(MEAN_BGR).view(1, 3, 1, 1))

    return extract
