"""The two classes of an image of a scene, as embeddings: its own class and its target's, learned from examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from counterlens.core import embeddings
from counterlens.core.directions import Pair
from counterlens.core.errors import UsageError

if TYPE_CHECKING:
    from counterlens.core.embeddings import Embeddings
    from counterlens.core.types import Scene


def pair_of(scene: Scene, row: int, per_class: int, file: str = "") -> Pair:
    """The pair of one row: embeddings of a file, else of the scene's examples (cached on the disk)."""
    labels = scene.studio.classifier.labels
    names = (labels[int(scene.source[row])], labels[int(scene.target[row])])
    memo, key = scene.studio.memo, ("pair", names, per_class, file)
    if key not in memo:
        found = _of_file(scene, file) if file else _of_examples(scene, names, per_class)
        source, target = (found.of(name)[:per_class] for name in names)
        memo[key] = Pair(source, target, names, scene.studio.pipeline)
    return memo[key]


def step_of(scene: Scene, direction: Any, unit: Tensor, per_class: int, file: str = "") -> Tensor:
    """The step [B,D] of every row's unit embedding [B,D], each between its own two classes."""
    if isinstance(direction, str):
        raise TypeError(f"direction {direction!r} is only a name: give the piece, or make the editor with a registry")
    memo, steps = scene.studio.memo, torch.zeros_like(unit)
    pairs = [pair_of(scene, row, per_class, file) for row in range(len(scene))]
    for names in dict.fromkeys(pair.names for pair in pairs):
        rows = [row for row, pair in enumerate(pairs) if pair.names == names]
        key = ("move", direction, names, per_class, file)
        if key not in memo:
            memo[key] = direction.fit(pairs[rows[0]])
        steps[rows] = memo[key](unit[rows])
    return steps


def _of_file(scene: Scene, file: str) -> Embeddings:
    found = embeddings.load(file)
    found.check(scene.studio.pipeline, scene.studio.examples)
    return found


def _of_examples(scene: Scene, names: tuple[str, str], per_class: int) -> Embeddings:
    examples = scene.studio.examples
    if examples is None:
        raise UsageError("which images show the classes? give --data URI (a folder of class folders, or domain:NAME)")
    for name in names:
        if name not in examples.labels:
            raise UsageError(
                f"{examples.uri} has no class {name!r}, which the classifier knows: it has {', '.join(examples.labels)}"
            )
    return embeddings.cached(scene.studio.pipeline, examples, names, per_class)
