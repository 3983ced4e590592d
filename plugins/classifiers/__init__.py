"""Classifiers by URI: one file a scheme, each with ``open_classifier``; this module only picks the file."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.core.utils.uri import Uri, parse_uri

if TYPE_CHECKING:
    from torch import nn

    from counterlens.core.classifiers.classifier import Classifier

SCHEMES = {
    "timm": "a model of timm",
    "torchvision": "a model of torchvision",
    "hf": "a model of transformers, by id or folder",
    "clip": "CLIP with labels as words",
    "file": "a .safetensors file with a named architecture",
    "python": "a callable or module of your own code",
    "torchscript": "a network with its program, saved by torch.jit",
    "export": "a network with its program, saved by torch.export",
    "onnx": "a network with its program, asked by onnxruntime",
    "ensemble": "a folder of classifiers whose logits are averaged",
}

FILES = dict.fromkeys(("torchscript", "export", "onnx"), "loaders.programs")


@hookimpl
def counterlens_schemes() -> dict[str, dict[str, str]]:
    return {"classifier": SCHEMES}


@hookimpl
def counterlens_open_classifier(uri: str, device: str) -> Classifier | None:
    """The classifier behind a URI of ``SCHEMES``, else None."""
    return open_classifier(uri, device)


@hookimpl
def counterlens_architecture(name: str, classes: int) -> nn.Module | None:
    """The network of an architecture's name; UsageError with a suggestion for another."""
    return architecture(name, classes)


def open_classifier(uri: str, device: str = "cpu") -> Classifier | None:
    """The classifier, frozen, on ``device``; None for another scheme; UsageError or MissingError with what to do."""
    parts = parse_uri(uri)
    if parts.scheme not in SCHEMES:
        return None
    if parts.scheme == "file" and (Path(parts.path).expanduser() / "config.json").is_file():
        parts = Uri("hf", parts.path, parts.options)  # a folder in the layout of transformers
    opener = importlib.import_module(f"{__name__}.{FILES.get(parts.scheme, parts.scheme)}").open_classifier
    if parts.scheme == "file":
        return opener(parts, device, architecture)
    if parts.scheme == "ensemble":
        return opener(parts, device, open_classifier)
    return opener(parts, device)


def architecture(name: str, classes: int) -> nn.Module:
    """A network with ``classes`` outputs: ``timm:NAME``, ``torchvision:NAME``, ``small-cnn[:WIDTH]``,
    ``pool-cnn[:WIDTH]``, all untrained,
    or ``probe:DIR``, a linear layer on the image encoder in that folder."""
    from counterlens.core.errors import unknown

    kind, _, model = name.partition(":")
    builders = {
        "timm": "timm",
        "torchvision": "torchvision",
        "small-cnn": "small_cnn",
        "pool-cnn": "pool_cnn",
        "probe": "probe",
    }
    if kind not in builders:
        raise unknown("architecture", name, ("timm:NAME", "torchvision:NAME", "small-cnn", "pool-cnn", "probe:DIR"))
    return importlib.import_module(f"{__name__}.{builders[kind]}").build(model, classes)
