"""``ensemble:DIR``: the mean of the probabilities of several classifiers in one folder.

Members are its ``.safetensors`` files (each as ``file:``) and its sub-folders with a ``config.json``. A mean over
networks trained apart has gradients that follow the picture more than one network's accidents.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from counterlens.core.errors import UsageError
from counterlens.core.utils.uri import Uri

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.classifiers.classifier import Classifier


def open_classifier(uri: Uri, device: str, open_one: Callable[[str, str], Classifier | None]) -> Classifier:
    """Every member keeps its own contract; labels must be the same, their order may differ."""
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.classifiers.preprocessing import Preprocessing
    from counterlens.core.utils.weights import existing

    uri.only()
    folder = existing(uri.path)
    parts = [path for path in sorted(folder.glob("*")) if path.suffix == ".safetensors" or _is_model(path)]
    if not parts:
        raise UsageError(f"{uri}: no .safetensors file and no model folder in {folder}")
    members = [member for path in parts if (member := open_one(f"file:{path}", device)) is not None]
    labels = members[0].labels
    for path, member in zip(parts, members, strict=True):
        if set(member.labels) != set(labels):
            raise UsageError(
                f"{uri}: {path.name} has the labels {', '.join(member.labels)}; "
                f"{parts[0].name} has {', '.join(labels)}: members need the same"
            )
    orders = [[member.labels.index(label) for label in labels] for member in members]

    def mean(images: Tensor) -> Tensor:
        import torch

        logs = [m.logits(images).log_softmax(1)[:, order] for m, order in zip(members, orders, strict=True)]
        return torch.stack(logs).logsumexp(0) - math.log(len(logs))

    modules = {
        f"{path.name}/{name}": net for path, m in zip(parts, members, strict=True) for name, net in m.modules.items()
    }
    salt = ",".join(member.digest for member in members)
    return Classifier(str(uri), mean, Preprocessing(labels), modules=modules, device=device, salt=salt).ready()


def _is_model(path: Path) -> bool:
    return (path / "config.json").is_file()
