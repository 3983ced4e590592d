"""The two domains as the engine sees them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from counterlens.core.data.domain import Domain, Sample
from counterlens.core.errors import MissingError, UsageError, unknown
from counterlens.plugins.embedded.content import store

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

SPLITS = {"train": "train", "validation": "val", "test": "test"}


class Embedded(Domain):
    """What both domains share: weights in this package, indices checked."""

    @classmethod
    def models(cls) -> Mapping[str, Path]:
        found = store.pipelines(cls.name)
        if "kandinsky22" in found:  # its image encoder lies beside it
            store.checked(found["kandinsky22"].with_name("kandinsky22-prior"))
        return {family: store.checked(path) for family, path in found.items()}

    @classmethod
    def record(cls) -> Mapping[str, Any]:
        return store.record(cls.name)

    @classmethod
    def train(cls, **how: Any) -> Mapping[str, Any]:
        """Train again; ``how`` as in ``train.train_domain`` (out, parts, seed, device, on_progress). MissingError in
        an installed package, which has the weights and not the scripts that made them."""
        try:
            from counterlens.plugins.embedded.make.train import train_domain
        except ModuleNotFoundError as error:
            if error.name != "counterlens.plugins.embedded.make":
                raise
            raise MissingError(
                "training the domains runs from a checkout of the project: an installed package has their weights, "
                "not the scripts that made them; clone it, and give the command there"
            ) from None
        return train_domain(cls.name, **how)

    @classmethod
    def check(cls, index: int, split: str) -> None:
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        if not 0 <= index < cls.length(split):
            raise UsageError(
                f"{cls.name} has {cls.length(split)} {split} images (0 to {cls.length(split) - 1}), not {index}"
            )


class Shapes(Embedded):
    """Kiki and Bouba, drawn from known factors."""

    name = "shapes"
    labels = ("bouba", "kiki")
    classifier = "domain:shapes"
    judge = "domain:shapes-judge"
    demo_indices: ClassVar[tuple[int, ...]] = (3, 10, 12)
    widths: ClassVar[Mapping[str, float]] = {
        **{"spikiness": 1.0, "size": 0.13, "cx": 0.14, "cy": 0.14, "lobes": 3.0},
        **{"hue": 1.0, "background": 1.0, "angle": 1.0},
    }
    circular = ("hue", "background", "angle")
    causes: ClassVar[Mapping[str, str]] = {"domain:shapes-shortcut": "background"}
    guesses: ClassVar[Mapping[str, str]] = {"domain:shapes-shortcut": "spikiness"}

    @classmethod
    def length(cls, split: str = "test") -> int:
        from counterlens.plugins.embedded.content import shapes

        return shapes.COUNTS[SPLITS[split]]

    @classmethod
    def sample(cls, index: int, split: str = "test") -> Sample:
        from counterlens.plugins.embedded.content import captions, shapes

        cls.check(index, split)
        f = shapes.factors(SPLITS[split], index + 1)[index]
        return Sample(
            pixels=shapes.render(f), label=cls.labels[f.label], caption=captions.of_shape(f), factors=f.as_dict()
        )

    @classmethod
    def truth(cls, index: int, target: str, split: str = "test") -> np.ndarray | None:
        from counterlens.plugins.embedded.content import shapes

        if target not in cls.labels:
            raise unknown("class", target, cls.labels)
        if cls.sample(index, split).label == target:
            return None
        return shapes.true_counterfactual(index, SPLITS[split])

    @classmethod
    def read_factors(cls, images: Tensor) -> Mapping[str, Tensor]:
        from counterlens.plugins.embedded.content import factor_regressor

        return factor_regressor.factors(images)


class Digits(Embedded):
    """Handwritten digits from scikit-learn."""

    name = "digits"
    labels = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    classifier = "domain:digits"
    judge = "domain:digits-judge"
    demo_indices: ClassVar[tuple[int, ...]] = (15, 1, 5)
    # what a demonstration turns each digit into: strokes that are near
    near: ClassVar[tuple[str, ...]] = (
        "six",
        "seven",
        "three",
        "eight",
        "nine",
        "three",
        "zero",
        "nine",
        "three",
        "four",
    )

    @classmethod
    def part(cls, split: str) -> str:
        return "train-all" if split == "train" else SPLITS[split]

    @classmethod
    def length(cls, split: str = "test") -> int:
        from counterlens.plugins.embedded.content import digits

        return len(digits.split_indices()[cls.part(split)])

    @classmethod
    def sample(cls, index: int, split: str = "test") -> Sample:
        from counterlens.plugins.embedded.content import captions, digits

        cls.check(index, split)
        pictures, labels = digits.images(cls.part(split))
        label = int(labels[index])
        return Sample(
            pixels=pictures[index], label=cls.labels[label], caption=captions.of_digit(pictures[index], label)
        )

    @classmethod
    def target_for(cls, label: str) -> str:
        """A digit of similar strokes."""
        if label not in cls.labels:
            raise unknown("class", label, cls.labels)
        return cls.near[cls.labels.index(label)]
