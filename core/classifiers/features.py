"""Feature extractors for metrics on sets: pictures in [0,1] -> one row of numbers each.

``judge``, ``classifier``, ``attributes`` or any classifier URI: what enters its last linear layer. ``inception`` or
``inception:PATH`` and ``clip:PATH``: brought by plugins (``counterlens_open_features``). With ``/spatial``: a map.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import PlanError, UsageError
from counterlens.core.utils.batched import batched

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.classifiers.classifier import Classifier

SPATIAL = "/spatial"
CHANNELS = 7  # of a map that spatial features keep, as spatial FID does
ROLES = ("judge", "classifier", "attributes")


@dataclass(eq=False)
class Features:
    """An extractor that keeps what it said: each picture is looked at once, whichever metrics ask.

    ``extract``: [B,3,H,W] in [0,1] -> [B,D]. ``name`` is printed with every number that rests on it.
    """

    name: str
    extract: Callable[[Tensor], Tensor]
    device: str = "cpu"
    batch: int = 32
    kept: dict[bytes, Tensor] = field(default_factory=dict, repr=False)

    def of(self, pictures: Iterable[Tensor]) -> Tensor:
        """[N,D] float32 on the CPU, a row a picture; pictures [3,H,W] may differ in size."""
        import torch

        pictures = list(pictures)
        keys = [hashlib.sha256(p.contiguous().numpy().tobytes() + str(p.shape).encode()).digest() for p in pictures]
        fresh = {key: picture for key, picture in zip(keys, pictures, strict=True) if key not in self.kept}
        groups: dict[Any, list[bytes]] = {}
        for key, picture in fresh.items():
            groups.setdefault(tuple(picture.shape), []).append(key)
        for group in groups.values():
            for part in batched(group, self.batch):
                with torch.no_grad():
                    answer = self.extract(torch.stack([fresh[key].float() for key in part]).to(self.device))
                self.kept.update(zip(part, answer.float().cpu(), strict=True))
        return torch.stack([self.kept[key] for key in keys]) if keys else torch.empty(0, 0)


def penultimate(classifier: Classifier) -> Callable[[Tensor], Tensor]:
    """What enters the last linear layer that is called.

    UsageError for a network that has none, PlanError for a black box.
    """
    from torch import nn

    return lambda images: _last(classifier, images, nn.Linear, "linear layer", input=True).flatten(1)


def spatial(classifier: Classifier) -> Callable[[Tensor], Tensor]:
    """The first channels of what the last convolution answers, flattened; errors as of ``penultimate``."""
    from torch import nn

    return lambda images: _last(classifier, images, nn.Conv2d, "convolution")[:, :CHANNELS].flatten(1)


def _last(classifier: Classifier, images: Tensor, kind: type, word: str, input: bool = False) -> Tensor:
    """What the last module of a kind that the classifier calls for these images answers, or is given."""
    from counterlens.core.diffusion.module_hooks import captured

    if not classifier.modules:
        raise PlanError(f"{classifier.uri} is a black box: it has no features; give another extractor")
    layers = [m for net in classifier.modules.values() for m in net.modules() if isinstance(m, kind)]
    with captured(layers, input) as calls:
        classifier.logits(images)
    if not calls or len(calls[-1][1]) != len(images):
        raise UsageError(f"{classifier.uri} has no {word} that sees one row an image: give other features")
    return calls[-1][1]
