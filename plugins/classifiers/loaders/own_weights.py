"""Weights of the user's own: into an architecture whatever wrapper they were saved from, of colours or of grey."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import UsageError
from counterlens.core.utils.uri import Uri

if TYPE_CHECKING:
    from torch import Tensor, nn


def loaded(uri: Uri, module: nn.Module, tensors: dict[str, Tensor], path: str | Path) -> tuple[int, tuple[str, ...]]:
    """Fill the network; gives the channels that it takes, and what was found on the way, for the user."""
    from counterlens.core.utils.prefixes import wrapper_of
    from counterlens.core.utils.weights import fill

    channels = _fit_channels(module, tensors)
    prefix = fill(module, tensors, path, uri.text("prefix"))
    notes = [f"{Path(path).name}: names begin with {wrapper_of(prefix)}, taken off"] if prefix else []
    if channels == 1:
        notes.append("it takes one channel: pictures are averaged to grey for it")
    return channels, tuple(notes)


def _fit_channels(module: nn.Module, tensors: dict[str, Tensor]) -> int:
    """The channels that the first convolution of the file takes; the network's own is made like it where it takes
    one and the network three."""
    from torch import nn

    name, first = next(((n, m) for n, m in module.named_modules() if isinstance(m, nn.Conv2d)), ("", None))
    weight = next((t for key, t in tensors.items() if key == f"{name}.weight" or key.endswith(f".{name}.weight")), None)
    if first is None or weight is None or weight.ndim != 4:
        return 3
    if weight.shape[1] == 1 and first.in_channels == 3 and first.groups == 1:
        first.in_channels, first.weight = 1, nn.Parameter(first.weight.detach()[:, :1].clone())
    return 1 if first.in_channels == 1 else 3


def saved_for_hub(uri: Uri) -> tuple[Uri, dict[str, Any]]:
    """A folder that timm saved for the hub as the URI of its architecture and weights, with its configuration; any
    other URI as it is."""
    folder = Path(uri.path).expanduser()
    if not (folder / "config.json").is_file():
        return uri, {}
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        about = dict(config.get("pretrained_cfg") or {})
        name = str(config["architecture"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise UsageError(
            f"{uri}: its config.json does not say the architecture, as timm saves it for the hub"
        ) from None
    options = {"weights": str(folder / "model.safetensors"), **uri.options}
    if "labels" not in options and (names := config.get("label_names") or about.get("label_names")):
        options["labels"] = ",".join(str(name).replace("%", "%25").replace(",", "%2C") for name in names)
    return replace(uri, path=name, options=options), about
