"""LPIPS: distance of two pictures in the layers of a network that was trained to see (Zhang et al. 2018).

The linear heads come with torchmetrics; the backbone's weights come from a path or torch's own cache, nothing is
downloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.utils import weights

if TYPE_CHECKING:
    from torch import Tensor, nn

# torchvision's name, its file in torch's cache, the layers after which features are taken, the smallest picture
BACKBONES: dict[str, tuple[str, str, tuple[int, ...], int]] = {
    "alex": ("alexnet", "alexnet-owt-7be5be79.pth", (1, 4, 7, 9, 11), 31),
    "vgg": ("vgg16", "vgg16-397923af.pth", (3, 8, 15, 22, 29), 16),
    "squeeze": ("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth", (1, 4, 7, 9, 10, 11, 12), 17),
}
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pictures in [-1,1]; the authors' scaling layer


def missing(net: str, path: Path | None) -> str:
    """What is missing of a backbone, in one line."""
    path = path or cached(net)
    name, file, _, _ = BACKBONES[net]
    if path.is_file():
        return ""
    return f"{path} does not exist: give weights=PATH of torchvision's {name} as .safetensors, or put {file} there"


def cached(net: str) -> Path:
    """Where torch keeps the backbone once it was downloaded."""
    import os

    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints" / BACKBONES[net][1]


def open_lpips(net: str, path: Path | None, device: str) -> Callable[..., Tensor]:
    """The distance as a function of two batches; MissingError without weights, UsageError when they do not fit."""
    import torchvision

    if why := missing(net, path):
        raise MissingError(why)
    name, _, layers, _ = BACKBONES[net]
    features = getattr(torchvision.models, name)(weights=None).features
    tensors = weights.read_weights(path)[0] if path else read_cached(cached(net))
    prefix = "features."
    wanted = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    weights.fill(features, wanted, path or name)
    return lpips(features.eval().requires_grad_(False).to(device), layers, heads(net))


def read_cached(path: Path) -> dict[str, Tensor]:
    """A checkpoint of torch's cache, whose name ends with the first digits of its sha256; no pickle is executed."""
    import torch

    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.stem.rpartition("-")[2]):
        raise UsageError(f"{path} is damaged (its sha256 is not the one in its name): delete it, download it again")
    return torch.load(path, map_location="cpu", weights_only=True)


def heads(net: str) -> list[Tensor]:
    """The weights w_l [1,C,1,1] of every layer, which torchmetrics ships."""
    import torch
    import torchmetrics.functional.image.lpips as home

    path = Path(home.__file__).parent / "lpips_models" / f"{net}.pth"
    found = torch.load(path, map_location="cpu", weights_only=True)
    return [found[f"lin{at}.model.1.weight"] for at in range(len(BACKBONES[net][2]))]


def lpips(features: nn.Module, layers: tuple[int, ...], linear: list[Tensor]) -> Callable[..., Tensor]:
    """d(x, y) = Σ_l mean_hw w_l · (φ_l(x) - φ_l(y))², φ of unit length along the channels; see ``distance``."""

    def unit(x: Tensor) -> list[Tensor]:
        found = []
        h = (2 * x - 1 - x.new_tensor(SHIFT).view(1, 3, 1, 1)) / x.new_tensor(SCALE).view(1, 3, 1, 1)
        for at, layer in enumerate(features.children()):
            h = layer(h)
            if at in layers:
                found.append(h / (h.square().sum(1, keepdim=True) + 1e-8).sqrt())
        return found

    def distance(x: Tensor, y: Tensor, reduce: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """[B] of pictures [B,3,H,W] in [0,1]; ``reduce`` makes [B] of a layer's map [B,1,h,w], its mean if None."""
        import torch

        maps = [
            ((a - b).square() * w.to(a)).sum(1, keepdim=True) for a, b, w in zip(unit(x), unit(y), linear, strict=True)
        ]
        return torch.stack([m.mean((1, 2, 3)) if reduce is None else reduce(m) for m in maps]).sum(0)

    return distance
