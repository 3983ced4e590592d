"""``torchvision:NAME[?weights=PATH&labels=a,b]``: a torchvision model, its published weights or yours.

``?weights=IMAGENET1K_V2`` picks one of the published sets.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import MissingError, UsageError, unknown
from counterlens.core.utils.uri import Uri

if TYPE_CHECKING:
    from torch import nn

    from counterlens.core.classifiers.classifier import Classifier


def open_classifier(uri: Uri, device: str) -> Classifier:
    """Categories, size, mean and std are those of the published weights; yours need ``labels``."""
    from counterlens.core.classifiers.classifier import Classifier, reading_of
    from counterlens.core.classifiers.preprocessing import OPTIONS
    from counterlens.core.utils.weights import labels_in, read_weights
    from counterlens.plugins.classifiers.loaders.own_weights import loaded

    uri.only("weights", "prefix", "transform_input", *OPTIONS)
    published, given = _published(uri.path), uri.text("weights")
    if not given or given in published.__members__:
        entry = published[given] if given else published.DEFAULT
        model = build(uri.path, len(entry.meta["categories"]))
        _load(model, entry, uri)
        contract = _contract(entry, entry.meta["categories"], uri)
        return Classifier.of(model, uri=str(uri), device=device, **reading_of(uri, contract))
    tensors, metadata = read_weights(given)
    labels = uri.names("labels") or labels_in(metadata)
    if not labels:
        raise UsageError(f"{uri}: your own weights need their labels: add &labels=a,b,… in the order of the outputs")
    model = build(uri.path, len(labels))
    if hasattr(model, "transform_input"):
        model.transform_input = uri.text("transform_input", "false").lower() == "true"  # type: ignore[assignment]
    channels, notes = loaded(uri, model, tensors, given)
    contract = _contract(published.DEFAULT, labels, uri, channels)
    return Classifier.of(model, uri=str(uri), device=device, notes=notes, **reading_of(uri, contract))


def build(name: str, classes: int) -> nn.Module:
    """An untrained torchvision classifier with ``classes`` outputs; UsageError for an unknown name."""
    from torchvision.models import get_model

    _published(name)
    kwargs = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return get_model(name, weights=None, num_classes=classes, **kwargs)


def _published(name: str) -> Any:
    """The enum of the model's published weights."""
    import torchvision.models as models

    from counterlens.core.classifiers.preprocessing import closest

    known = models.list_models(module=models)
    if name not in known:
        raise unknown("torchvision model", name, closest(name, known))
    return models.get_model_weights(name)


def _load(model: nn.Module, entry: Any, uri: Uri) -> None:
    from pathlib import Path
    from urllib.error import URLError

    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    missing = MissingError(
        f"{uri}: the weights {entry.url.rpartition('/')[2]} are not in {folder} and cannot be fetched: "
        "open it once with a connection, or add ?weights=PATH.safetensors&labels=a,b,…"
    )
    offline = os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on")
    if offline and not (folder / entry.url.rpartition("/")[2]).exists():
        raise missing
    try:
        # published by torchvision as pickles: weights_only=True reads tensors and runs nothing
        state = torch.hub.load_state_dict_from_url(entry.url, map_location="cpu", check_hash=True, weights_only=True)
    except (URLError, OSError) as error:
        raise missing from error
    model.load_state_dict(state)
    if hasattr(model, "transform_input"):
        # Inception v3 and GoogLeNet were ported from TensorFlow: with their published weights torchvision normalises
        # once more inside the network
        model.transform_input = True  # type: ignore[assignment]


def _contract(entry: Any, labels: Any, uri: Uri, channels: int = 3) -> Any:
    from counterlens.core.classifiers.preprocessing import Preprocessing, distinct, square

    transforms = entry.transforms()
    resize = "bicubic-antialias" if transforms.interpolation.value == "bicubic" else "bilinear-antialias"
    size, mean, std = square(transforms.crop_size), tuple(transforms.mean), tuple(transforms.std)
    return (
        Preprocessing(labels=distinct(labels), size=size, mean=mean, std=std, resize=resize)
        .of_channels(channels)
        .overridden(uri)
    )
