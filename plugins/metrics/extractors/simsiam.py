"""SimSiam's ResNet-50 with its projector of three layers (Chen and He 2021), for S³."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn
from torchvision.models import resnet50

from counterlens.core.utils import weights

if TYPE_CHECKING:
    from torch import Tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def network(dim: int = 2048) -> nn.Module:
    """The encoder f of the paper: backbone, then linear - norm - relu twice and linear - norm without affine part."""
    net = resnet50(weights=None)
    width = net.fc.in_features
    net.fc = nn.Sequential(  # type: ignore[assignment]
        nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(),
        nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(),
        nn.Linear(width, dim), nn.BatchNorm1d(dim, affine=False),
    )  # fmt: skip
    return net


def extractor(path: Path, device: str, spatial: bool = False) -> Callable[[Tensor], Tensor]:
    """[B,3,H,W] in [0,1], at their own size -> z [B,2048]."""
    net = network()
    tensors = {key.removeprefix("module."): value for key, value in weights.read_weights(path)[0].items()}
    prefix = "encoder."
    weights.fill(net, {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}, path)
    net.eval().requires_grad_(False).to(device)

    def extract(images: Tensor) -> Tensor:
        return net((images - images.new_tensor(MEAN).view(1, 3, 1, 1)) / images.new_tensor(STD).view(1, 3, 1, 1))

    return extract
