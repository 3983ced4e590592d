"""``timm:NAME[?weights=PATH&labels=a,b]``: a timm model, its pretrained weights or yours.

NAME may be written as on the hub's page (``timm/NAME.TAG``, ``hf-hub:timm/NAME.TAG``), or be a folder saved for it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import MissingError, UsageError, unknown
from counterlens.core.utils.uri import Uri

if TYPE_CHECKING:
    from torch import nn

    from counterlens.core.classifiers.classifier import Classifier


def open_classifier(uri: Uri, device: str) -> Classifier:
    """Size, mean and std are those of timm's data configuration; labels those of ImageNet unless given."""
    from counterlens.core.classifiers.classifier import Classifier, reading_of
    from counterlens.core.classifiers.preprocessing import OPTIONS
    from counterlens.core.utils.weights import labels_in, read_weights
    from counterlens.plugins.classifiers.loaders.own_weights import loaded, saved_for_hub

    uri.only("weights", "prefix", *OPTIONS)
    uri, about = saved_for_hub(replace(uri, path=_bare(uri.path)))
    weights = uri.text("weights")
    if not weights:
        model = _pretrained(uri)
        contract = _contract(model, _labels(uri, model), uri)
        return Classifier.of(model, uri=str(uri), device=device, **reading_of(uri, contract))
    tensors, metadata = read_weights(weights)
    labels = uri.names("labels") or labels_in(metadata)
    if not labels:
        raise UsageError(f"{uri}: your own weights need their labels: add &labels=a,b,… in the order of the outputs")
    model = build(uri.path, len(labels))
    channels, notes = loaded(uri, model, tensors, weights)
    contract = _contract(model, labels, uri, channels, about)
    return Classifier.of(model, uri=str(uri), device=device, notes=notes, **reading_of(uri, contract))


def _bare(name: str) -> str:
    """A model's name as timm knows it, out of how the hub's pages write it."""
    bare = re.sub(r"^(hf[-_]hub:)?(timm/)?", "", name)
    return bare if re.match(r"(hf[-_]hub:|timm/)", name) else name


def build(name: str, classes: int) -> nn.Module:
    """An untrained timm model with ``classes`` outputs; UsageError for an unknown name."""
    import timm

    _known(name)
    return timm.create_model(name, pretrained=False, num_classes=classes)


def _known(name: str) -> None:
    import timm

    from counterlens.core.classifiers.preprocessing import closest

    if not timm.is_model(name):
        raise unknown("timm model", name, closest(name, timm.list_models()))


def _pretrained(uri: Uri) -> nn.Module:
    import timm

    _known(uri.path)
    if not timm.models.is_model_pretrained(uri.path):
        raise UsageError(f"{uri}: timm has no weights for {uri.path}: add ?weights=PATH.safetensors&labels=a,b,…")
    try:
        return timm.create_model(uri.path, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:  # offline, not in the cache, or an unknown tag
        if "tag" in str(error):
            raise UsageError(f"{uri}: {error}") from None
        raise MissingError(
            f"{uri}: the weights of {uri.path} are not in the local cache and cannot be fetched: "
            "open it once with a connection, or add ?weights=PATH.safetensors&labels=a,b,…"
        ) from error


def _labels(uri: Uri, model: Any) -> tuple[str, ...]:
    from timm.data import ImageNetInfo, infer_imagenet_subset

    from counterlens.core.classifiers.preprocessing import distinct

    if given := uri.names("labels"):
        return given
    subset = infer_imagenet_subset(model)
    if not subset:
        raise UsageError(f"{uri}: timm does not know the labels of {uri.path}: add ?labels=a,b,…")
    info = ImageNetInfo(subset)
    return distinct(info.index_to_description(index).split(",")[0] for index in range(info.num_classes()))


def _contract(model: Any, labels: tuple[str, ...], uri: Uri, channels: int = 3, about: Any = None) -> Any:
    """``about``: a configuration that was saved with the weights; it wins over the architecture's."""
    from timm.data import resolve_data_config

    from counterlens.core.classifiers.preprocessing import Preprocessing

    config = resolve_data_config({}, model=model, pretrained_cfg=about or None)
    mean, std = tuple(config["mean"]), tuple(config["std"])
    resize = "bicubic-antialias" if config["interpolation"] == "bicubic" else "bilinear-antialias"
    height, width = config["input_size"][-2:]
    taken = config["input_size"][0]
    plain = Preprocessing(
        labels=labels, size=(height, width), mean=mean, std=std, resize=resize, channels=len(mean)
    ).of_channels(taken)
    return (plain if channels == 3 else plain.of_channels(channels)).overridden(uri)
