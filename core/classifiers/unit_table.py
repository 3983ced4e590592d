"""Units of a classifier over many images: what they say, which images they say it most of, and where they look.

Rows carry their own name and label, so that nothing depends on the order in which images or classes are listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from counterlens.core.classifiers.units import PENULTIMATE, layers, unit_activations
from counterlens.core.diffusion.module_hooks import captured
from counterlens.core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from counterlens.core.classifiers.classifier import Classifier


@dataclass(frozen=True, eq=False)
class UnitTable:
    """``values`` [N,U] of a layer for N images, with each image's name and label."""

    layer: str
    names: tuple[str, ...]
    labels: tuple[str, ...]
    values: Tensor

    def top(self, unit: int, count: int) -> list[int]:
        """Rows with the largest activations of a unit, the largest first; ties in the order of the images."""
        order = self.values[:, unit].argsort(descending=True, stable=True)
        return order[:count].tolist()

    def check(self, units: Iterable[int]) -> None:
        """UsageError for a unit that the layer does not have."""
        count = self.values.shape[1]
        for unit in units:
            if not 0 <= unit < count:
                raise UsageError(f"layer {self.layer!r} has units 0 to {count - 1}, not {unit}")

    def summary(self, unit: int, count: int = 5) -> dict[str, Any]:
        """A unit's mean, deviation and largest value, the class that it is largest for, and its top images."""
        own = self.values[:, unit]
        means = {
            label: float(own[[k for k, other in enumerate(self.labels) if other == label]].mean())
            for label in dict.fromkeys(self.labels)
        }
        best = max(means, key=lambda label: means[label])
        top = [
            {"image": self.names[k], "label": self.labels[k], "activation": round(float(own[k]), 6)}
            for k in self.top(unit, count)
        ]
        return {
            "layer": self.layer,
            "unit": unit,
            "mean": round(float(own.mean()), 6),
            "std": round(float(own.std(unbiased=False)), 6),
            "max": round(float(own.max()), 6),
            "class": best,
            "class_mean": round(means[best], 6),
            "top": top,
        }

    def save(self, path: Path) -> None:
        """As safetensors; names and labels are in its metadata."""
        from counterlens.core.utils.weights import write_weights

        write_weights(path, {"activations": self.values}, layer=self.layer, names=self.names, labels=self.labels)


def measured(
    classifier: Classifier, pictures: Iterable[tuple[str, str, np.ndarray]], layer: str = PENULTIMATE, batch: int = 32
) -> UnitTable:
    """The table of pictures (name, label, uint8 [H,W,3]); sizes may differ. UsageError for a layer, or no picture."""
    from counterlens.core.images.pixels import to_tensor, unit

    names, labels, rows = [], [], []
    waiting: list[Tensor] = []

    def ask() -> None:
        with torch.no_grad():
            rows.append(unit_activations(classifier, unit(torch.stack(waiting)).to(classifier.device), layer)[1].cpu())
        waiting.clear()

    for name, label, pixels in pictures:
        image = to_tensor(pixels)
        if waiting and (len(waiting) == batch or waiting[0].shape != image.shape):
            ask()
        waiting.append(image)
        names.append(name)
        labels.append(label)
    if not names:
        raise UsageError("no picture to look at: the data has none that can be read")
    ask()
    return UnitTable(layer, tuple(names), tuple(labels), torch.cat(rows))


def attribution(classifier: Classifier, images: Tensor, unit: int, layer: str = PENULTIMATE) -> Tensor:
    """Where a unit looks: HiResCAM (Draelos & Carin 2020), gradient times activation of the last convolution before
    its layer, summed over channels; what speaks for it, [B,1,H,W] in [0,1] of images [B,3,H,W] in [0,1]. A network
    without convolutions is asked by its input's.
    """
    import torch.nn.functional as F
    from captum.attr import InputXGradient, LayerGradientXActivation

    def says(x: Tensor) -> Tensor:
        return unit_activations(classifier, x, layer)[1][:, unit]

    images = images.to(classifier.device).clone().requires_grad_()
    conv = _before(classifier, images[:1].detach(), layer)
    with torch.enable_grad():
        if conv is None:
            scores = InputXGradient(says).attribute(images)
        else:
            scores = LayerGradientXActivation(says, conv).attribute(images)
    scores = scores.detach().float().sum(1, keepdim=True).clamp_min(0)
    scores = F.interpolate(scores, images.shape[-2:], mode="bilinear", align_corners=False)
    return (scores / scores.amax((2, 3), keepdim=True).clamp_min(1e-12)).cpu()


def _before(classifier: Classifier, image: Tensor, layer: str) -> nn.Module | None:
    """The last convolution with a map that is called before a layer is done, or the layer itself."""
    known = layers(classifier)
    last = known.get(layer)
    convolutions = [module for module in known.values() if isinstance(module, nn.Conv2d)]
    with torch.no_grad(), captured([*convolutions, *([] if last is None else [last])]) as calls:
        classifier.logits(image)
    ends = [k for k, (module, _) in enumerate(calls) if module is last]
    maps = [
        module
        for module, out in (calls[: ends[-1] + 1] if ends else calls)
        if isinstance(module, nn.Conv2d) and getattr(out, "ndim", 0) == 4 and min(out.shape[-2:]) > 1
    ]
    return maps[-1] if maps else None


def words_by_activation(values: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Words by the mean activation of their images, the largest first: {word, activation, std, n}."""
    rows = []
    for word, own in values.items():
        mean = sum(own) / len(own)
        std = (sum((v - mean) ** 2 for v in own) / len(own)) ** 0.5
        rows.append({"word": word, "activation": round(mean, 6), "std": round(std, 6), "n": len(own)})
    return sorted(rows, key=lambda row: (-row["activation"], row["word"]))
