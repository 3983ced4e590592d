"""The preprocessing contract of a classifier: what its network expects, kept with the classifier itself."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F

from counterlens.core.errors import UsageError, unknown
from counterlens.core.utils.uri import Uri

# what every classifier URI may override: how pictures are prepared, and how the answer is read
OPTIONS = ("labels", "size", "mean", "std", "resize", "channels", "order", "outputs", "output", "label")
RESIZES = {"bilinear-antialias": "bilinear", "bicubic-antialias": "bicubic", "nearest": "nearest-exact"}
ORDERS = ("rgb", "bgr")
GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow's convert("L")


@dataclass(frozen=True)
class Preprocessing:
    """Images [B,3,H,W] in [0,1] become ``(resize(images, size) - mean) / std``; ``size=None`` keeps theirs.

    ``mean`` and ``std`` have one number for each of ``channels`` (3, or 1 for a grey network), in the ``order`` in
    which the network takes the colours.
    The whole image is resized to ``size``, nothing is cropped. UsageError when the parts do not fit together.
    """

    labels: tuple[str, ...]
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: str = "bilinear-antialias"
    channels: int = 3
    order: str = "rgb"

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            raise UsageError(f"a classifier needs two labels at least, not {list(self.labels)}: give labels=a,b")
        if len(set(self.labels)) < len(self.labels):
            twice = next(label for label in self.labels if self.labels.count(label) > 1)
            raise UsageError(f"label {twice!r} is given twice: labels must differ")
        if self.channels not in (1, 3) or not len(self.mean) == len(self.std) == self.channels:
            raise UsageError(f"mean {self.mean} and std {self.std} need {self.channels} numbers each (channels 1 or 3)")
        if min(self.std) <= 0:
            raise UsageError(f"std {self.std} must be positive")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise UsageError(f"size {self.size} must be height and width, both positive")
        if self.resize not in RESIZES:
            raise unknown("resize", self.resize, RESIZES)
        if self.order not in ORDERS:
            raise unknown("order", self.order, ORDERS)

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """What the network sees: [B,3,H,W] in [0,1] -> [B,channels,h,w]. Differentiable."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be [B,3,H,W], not {list(images.shape)}")
        if self.size is not None and tuple(images.shape[-2:]) != tuple(self.size):
            mode = RESIZES[self.resize]
            smooth = {} if mode == "nearest-exact" else {"antialias": True, "align_corners": False}
            images = F.interpolate(images, self.size, mode=mode, **smooth)  # type: ignore[arg-type]
        if self.channels == 1:
            images = (images * images.new_tensor(GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
        elif self.order == "bgr":
            images = images.flip(1)
        mean, std = (images.new_tensor(part).view(1, -1, 1, 1) for part in (self.mean, self.std))
        return (images - mean) / std

    def canonical(self) -> str:
        """JSON that is the same for equal contracts; part of the classifier's digest."""
        parts = asdict(self)
        if self.order == "rgb":  # as before there was an order: digests stay
            del parts["order"]
        return json.dumps(parts, sort_keys=True)

    def overridden(self, uri: Uri) -> Preprocessing:
        """This contract with the URI's ``labels``, ``size`` (``224`` or ``224x320``), ``mean``, ``std``, ``resize``,
        ``channels`` and ``order``."""
        changes: dict = {}
        channels = self.channels
        if given := uri.numbers("channels"):
            channels = changes["channels"] = int(given[0])
            if channels != self.channels:
                changes |= {key: _spread(getattr(self, key), channels) for key in ("mean", "std")}
        if labels := uri.names("labels"):
            changes["labels"] = labels
        if size := uri.numbers("size"):
            changes["size"] = square(size)
        for key in ("mean", "std"):
            if numbers := uri.numbers(key):
                changes[key] = numbers * channels if len(numbers) == 1 else numbers
        changes |= {key: uri.text(key) for key in ("resize", "order") if key in uri.options}
        return replace(self, **changes)

    def of_channels(self, channels: int) -> Preprocessing:
        """This contract for a network of so many channels; a grey one gets the average of the colours' numbers."""
        if channels == self.channels:
            return self
        return replace(self, channels=channels, mean=_spread(self.mean, channels), std=_spread(self.std, channels))


def _spread(numbers: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return (sum(numbers) / len(numbers),) * channels


def square(size: float | str | Iterable[float]) -> tuple[int, int]:
    """``224``, ``"224x320"``, ``(224,)`` or ``(224, 320)`` as (height, width)."""
    size = size.split("x") if isinstance(size, str) else size  # type: ignore[assignment]
    numbers = tuple(int(n) for n in size) if isinstance(size, Iterable) else (int(size),)
    return (numbers * 2)[:2] if len(numbers) == 1 else numbers  # type: ignore[return-value]


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Public label lists name two classes alike (ImageNet has two cranes): the later ones get their index."""
    seen: set[str] = set()
    result = []
    for index, name in enumerate(names):
        result.append(name if name not in seen else f"{name} ({index})")
        seen.add(name)
    return tuple(result)


def closest(name: str, names: Iterable[str], most: int = 20) -> list[str]:
    """The names to list in an error: all when they are few, else those that contain ``name`` or resemble it."""
    names = list(names)
    if len(names) <= most:
        return names
    inside = [known for known in names if name.casefold() in known.casefold()]
    return list(dict.fromkeys(inside + difflib.get_close_matches(name, names, most, 0.5)))[:most]
