"""Feature extractors for metrics on sets: pictures in [0,1] -> one row of numbers each.

``judge``, ``classifier``, ``attributes`` or any classifier URI: what enters its last linear layer. ``inception`` or
``inception:PATH`` and ``clip:ID``: brought by metrics plugins through ``EXTRACTORS``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import PlanError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.classifier import Classifier
    from counterlens.core.measuring import Context

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
            for at in range(0, len(group), self.batch):
                part = group[at : at + self.batch]
                with torch.no_grad():
                    answer = self.extract(torch.stack([fresh[key].float() for key in part]).to(self.device))
                self.kept.update(zip(part, answer.float().cpu(), strict=True))
        return torch.stack([self.kept[key] for key in keys]) if keys else torch.empty(0, 0)


def open_features(uri: str, context: Context) -> Features:
    """The extractor behind ``judge``, ``classifier``, ``attributes``, a scheme of a plugin, or a classifier URI."""
    for plugin in context.registry.pm.get_plugins():
        opener = getattr(plugin, "EXTRACTORS", {}).get(uri.partition(":")[0])
        if opener is not None:
            return opener(uri, context)
    classifier = getattr(context, uri) if uri in ROLES else context.open("judge", uri)
    return Features(uri, penultimate(classifier), context.device, context.batch)


def features_missing(uri: str, context: Context) -> str:
    """What is missing to open these features, in one line; empty when nothing is. Loads nothing."""
    if uri in ROLES:
        return "" if uri in context.gives else context.advice(uri)
    for plugin in context.registry.pm.get_plugins():
        check = getattr(plugin, "EXTRACTORS_MISSING", {}).get(uri.partition(":")[0])
        if check is not None:
            return check(uri, context)
    return ""


def penultimate(classifier: Classifier) -> Callable[[Tensor], Tensor]:
    """What enters the last linear layer that is called.

    UsageError for a network that has none, PlanError for a black box.
    """
    from torch import nn

    if not classifier.modules:
        raise PlanError(f"{classifier.uri} is a black box: it has no features; give another extractor")
    layers = [m for net in classifier.modules.values() for m in net.modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise UsageError(f"{classifier.uri} has no linear layer whose input could be its features")

    def extract(images: Tensor) -> Tensor:
        seen: list[Tensor] = []
        handles = [layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])) for layer in layers]
        try:
            classifier.logits(images)
        finally:
            for handle in handles:
                handle.remove()
        if not seen or len(seen[-1]) != len(images):
            raise UsageError(f"{classifier.uri}: its last linear layer does not see one row an image; other features")
        return seen[-1].flatten(1)

    return extract
