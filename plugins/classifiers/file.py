"""``file:PATH``: a safetensors state dict that says what it is.

Its metadata, or a ``.json`` of the same name beside it, holds ``arch`` (``timm:NAME``, ``torchvision:NAME``,
``small-cnn``) and ``labels``, and may hold ``size``, ``mean``, ``std``, ``resize``, ``channels``, ``order``,
``outputs`` and ``num_classes`` (1: a sigmoid head with two labels). Values of the metadata are text: JSON or numbers
and names split at commas. Names of weights may have what a wrapper puts in front (``module.``, ``_orig_mod.``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import UsageError
from counterlens.core.utils.uri import Uri

if TYPE_CHECKING:
    from torch import nn

    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.classifiers.preprocessing import Preprocessing


def open_classifier(uri: Uri, device: str, architecture: Callable[[str, int], nn.Module]) -> Classifier:
    """``architecture(name, classes)`` builds the network that the file names."""
    from counterlens.core.classifiers.classifier import Classifier, reading_of
    from counterlens.core.classifiers.preprocessing import OPTIONS
    from counterlens.core.utils.weights import existing, read_weights, value_of
    from counterlens.plugins.classifiers.loaders.own_weights import loaded

    uri.only("arch", "prefix", *OPTIONS)
    path = existing(uri.path)
    if path.is_dir():
        raise UsageError(f"{path} has no config.json: give a .safetensors file, or a folder saved by transformers")
    tensors, metadata = read_weights(path)
    about = {key: value_of(value) for key, value in metadata.items()} | _beside(path)
    about |= {key: uri.names(key) for key in ("labels",) if key in uri.options}
    about |= {key: uri.text(key) for key in ("arch",) if key in uri.options}
    for key in ("arch", "labels"):
        if not about.get(key):
            raise UsageError(
                f"{path} does not say its {key}: write {path.stem}.json beside it with "
                '{"arch": "torchvision:resnet18", "labels": ["cat", "dog"]}, or add ?arch=…&labels=…'
            )
    plain = _contract(about, path)
    module = architecture(str(about["arch"]), int(about.get("num_classes") or len(uri.names("labels") or plain.labels)))
    channels, notes = loaded(uri, module, tensors, path)
    contract = plain.of_channels(channels).overridden(uri)
    reading = reading_of(uri, contract, str(about.get("outputs") or "logits"))
    return Classifier.of(module, uri=str(uri), device=device, notes=notes, **reading)


def _beside(path: Path) -> dict[str, Any]:
    """The sibling ``.json``; it wins over the metadata."""
    sibling = path.with_suffix(".json")
    if not sibling.is_file():
        return {}
    try:
        found = json.loads(sibling.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{sibling} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f'{sibling} must be an object like {{"arch": …, "labels": […]}}')
    return found


def _contract(about: Mapping[str, Any], path: Path) -> Preprocessing:
    from counterlens.core.classifiers.preprocessing import Preprocessing, square
    from counterlens.core.utils.weights import labels_of

    parts: dict[str, Any] = {"labels": labels_of(about["labels"])}
    try:
        channels = int(about.get("channels") or 3)
        if about.get("size"):
            parts["size"] = square(about["size"])
        for key in ("mean", "std"):
            if about.get(key) is not None:
                numbers = about[key] if isinstance(about[key], list | tuple) else [about[key]] * channels
                parts[key] = tuple(float(number) for number in numbers)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: size, mean or std cannot be read: {error}") from None
    parts |= {key: about[key] for key in ("resize", "order") if about.get(key)}
    if channels == 1:
        parts = {"mean": (0.0,), "std": (1.0,), **parts, "channels": 1}
    return Preprocessing(**parts)
