"""The two classes of an image of a scene, as embeddings: its own class and its target's, learned from examples."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from counterlens.core.conditioning import embeddings
from counterlens.core.conditioning.directions import ClassPair
from counterlens.core.errors import UsageError

if TYPE_CHECKING:
    from counterlens.core.conditioning.embeddings import Embeddings
    from counterlens.core.problem.scene import Scene


def pair_of(scene: Scene, row: int, per_class: int, file: str = "") -> ClassPair:
    """The pair of one row: embeddings of a file, else of the scene's examples (cached on the disk)."""
    labels = scene.resources.classifier.labels
    names = (labels[int(scene.source[row])], labels[int(scene.target[row])])

    def learned() -> ClassPair:
        found = _of_file(scene, file) if file else _of_examples(scene, names, per_class)
        source, target = (found.of(name)[:per_class] for name in names)
        return ClassPair(source, target, names, scene.resources.pipeline)

    return scene.resources.memo.once(("pair", names, per_class, file), learned)


def step_of(scene: Scene, direction: Any, unit: Tensor, per_class: int, file: str = "") -> Tensor:
    """The step [B,D] of every row's unit embedding [B,D], each between its own two classes."""
    if isinstance(direction, str):
        raise TypeError(f"direction {direction!r} is only a name: give the piece, or make the editor with a registry")
    memo, steps = scene.resources.memo, torch.zeros_like(unit)
    pairs = [pair_of(scene, row, per_class, file) for row in range(len(scene))]
    for names in dict.fromkeys(pair.names for pair in pairs):
        rows = [row for row, pair in enumerate(pairs) if pair.names == names]
        move = memo.once(("move", direction, names, per_class, file), partial(direction.fit, pairs[rows[0]]))
        steps[rows] = move(unit[rows])
    return steps


def _of_file(scene: Scene, file: str) -> Embeddings:
    found = embeddings.load_embeddings(file)
    found.check(scene.resources.pipeline, scene.resources.examples)
    return found


def _of_examples(scene: Scene, names: tuple[str, str], per_class: int) -> Embeddings:
    examples = scene.resources.examples
    if examples is None:
        raise UsageError("which images show the classes? give --data URI (a folder of class folders, or domain:NAME)")
    for name in names:
        if name not in examples.labels:
            raise UsageError(
                f"{examples.uri} has no class {name!r}, which the classifier knows: it has {', '.join(examples.labels)}"
            )
    return embeddings.cached(scene.resources.pipeline, examples, names, per_class)
