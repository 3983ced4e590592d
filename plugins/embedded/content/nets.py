"""The small networks of a domain: explained classifier, judge, factor regressor. Input is [B,3,32,32] in [0,1]."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from counterlens.core.utils import weights


class PlainNet(nn.Module):
    """Strided convolutions with batch norm and an average at the end: the explained classifiers and the regressor."""

    def __init__(self, outputs: int, width: int = 24) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, o, stride in (
            (3, width, 1),
            (width, 2 * width, 2),
            (2 * width, 3 * width, 2),
            (3 * width, 3 * width, 2),
        ):
            layers += [nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.hidden = nn.Linear(3 * width * 16, 4 * width)
        self.head = nn.Linear(4 * width, outputs)

    def features(self, x: Tensor) -> Tensor:
        """[B, 4 * width] before the last layer."""
        return torch.relu(self.hidden(self.body(x * 2 - 1).flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class PoolNet(nn.Module):
    """Wide kernels, max pooling, GELU, group norm and two kinds of pooling at the end: the judge."""

    def __init__(self, outputs: int, width: int = 24) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, o in ((3, width), (width, 2 * width), (2 * width, 3 * width)):
            layers += [nn.Conv2d(i, o, 5, 1, 2), nn.GroupNorm(4, o), nn.GELU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers, nn.Conv2d(3 * width, 3 * width, 3, 1, 1), nn.GELU())
        self.hidden = nn.Linear(6 * width, 3 * width)
        self.head = nn.Linear(3 * width, outputs)

    def features(self, x: Tensor) -> Tensor:
        """[B, 3 * width] before the last layer."""
        h = self.body(x * 2 - 1)
        return nn.functional.gelu(self.hidden(torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


ARCHITECTURES = {"plain": PlainNet, "pool": PoolNet}


def save_net(path: Path, net: nn.Module, architecture: str, width: int, labels: tuple[str, ...]) -> None:
    """fp16 safetensors whose metadata says how to build the net and what it expects."""
    meta = {"architecture": architecture, "width": width, "labels": list(labels), "size": 32, "mean": 0.0, "std": 1.0}
    # batch-norm statistics as well: everything floating in half precision
    state = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    weights.write_weights(path, state, counterlens=meta)


def load_net(path: Path) -> tuple[nn.Module, dict[str, object]]:
    """The net in fp32, in eval mode, and its metadata (architecture, width, labels, size, mean, std)."""
    tensors, metadata = weights.read_weights(path)
    meta = json.loads(metadata["counterlens"])
    net = ARCHITECTURES[meta["architecture"]](len(meta["labels"]), meta["width"])
    weights.fill(net, {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}, path)
    return net.eval().requires_grad_(False), meta
