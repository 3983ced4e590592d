"""``file:PATH``: a safetensors state dict that says what it is.

Its metadata, or a ``.json`` of the same name beside it, holds ``arch`` (``timm:NAME``, ``torchvision:NAME``,
``small-cnn``) and ``labels``, and may hold ``size``, ``mean``, ``std``, ``resize`` and ``num_classes`` (1: a sigmoid
head with two labels). Values of the metadata are text: JSON or numbers and names split at commas.
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
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.classifiers.preprocessing import OPTIONS
    from counterlens.core.utils.weights import existing, fill, read_weights, value_of

    uri.only("arch", *OPTIONS)
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
    contract = _contract(about, path).overridden(uri)
    module = architecture(str(about["arch"]), int(about.get("num_classes") or len(contract.labels)))
    fill(module, tensors, path)
    return Classifier.of(module, contract, str(uri), device)


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
        if about.get("size"):
            parts["size"] = square(about["size"])
        for key in ("mean", "std"):
            if about.get(key) is not None:
                numbers = about[key] if isinstance(about[key], list | tuple) else [about[key]] * 3
                parts[key] = tuple(float(number) for number in numbers)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: size, mean or std cannot be read: {error}") from None
    if about.get("resize"):
        parts["resize"] = about["resize"]
    return Preprocessing(**parts)
