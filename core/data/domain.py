"""An embedded domain: a small data set with classifiers and trained pipelines that come with a package."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from counterlens.core.data.dataset import ENOUGH, PARTS, Dataset, Example
from counterlens.core.errors import UsageError
from counterlens.core.utils.digest import digest, image_digest

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from counterlens.core.utils.uri import Uri


def open_domain_images(domain: type[Domain], uri: Uri) -> Dataset:
    """The images of a part of a domain; ``first`` of ``domain:NAME?split=PART&first=N`` says how many."""
    uri.only("split", "first")
    split = uri.text("split", "train")
    if split not in PARTS.values():
        raise UsageError(f"{uri}: a domain has the splits train, validation and test, not {split!r}")
    length = domain.length(split)
    count = min(length, int(uri.text("first", str(length if length <= 2000 else ENOUGH))))

    def listed() -> tuple[Example, ...]:
        samples = ((i, domain.sample(i, split)) for i in range(count))
        return tuple(
            Example(f"{domain.name}:{split}:{i}", s.label, str(i), partial(getattr, s, "pixels")) for i, s in samples
        )

    def content() -> str:
        """Its images are drawn or packed by code: a few of them tell one version from another."""
        few = [domain.sample(i, split) for i in range(min(8, count))]
        seen = [(sample.label, image_digest(sample.pixels)) for sample in few]
        return digest({"domain": domain.name, "split": split, "count": count, "seen": seen})

    return Dataset(str(uri), domain.labels, listed, content, part=split)


class Sample(BaseModel):
    """One image of a domain: ``pixels`` uint8 [H,W,3], its label, and whatever is known of it."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)
    pixels: Any
    label: str
    caption: str = ""
    factors: Mapping[str, float] = {}


class Domain:
    """Base of every domain. ``NAME:INDEX`` on the command line is ``sample(INDEX)`` of its test split."""

    name: ClassVar[str] = ""
    labels: ClassVar[tuple[str, ...]] = ()
    size: ClassVar[int] = 32
    classifier: ClassVar[str] = ""  # URI of the explained classifier, e.g. domain:shapes
    judge: ClassVar[str] = ""  # URI of the independent judge, e.g. domain:shapes-judge
    widths: ClassVar[Mapping[str, float]] = {}  # width of the range of every factor that can be read off an image
    circular: ClassVar[tuple[str, ...]] = ()  # factors in [0,1) whose ends meet, e.g. a hue
    causes: ClassVar[Mapping[str, str]] = {}  # classifier URI -> the factor that it decides by
    guesses: ClassVar[Mapping[str, str]] = {}  # classifier URI -> the factor that people would guess
    demo_indices: ClassVar[tuple[int, ...]] = (0, 1, 2, 3)

    @classmethod
    def length(cls, split: str = "test") -> int:
        """Number of images in ``train``, ``validation`` or ``test``."""
        raise NotImplementedError

    @classmethod
    def sample(cls, index: int, split: str = "test") -> Sample:
        """One image; an index out of range is a UsageError with the range."""
        raise NotImplementedError

    @classmethod
    def models(cls) -> Mapping[str, Path]:
        """Pipeline folders by family name, the preferred one first. URI: ``domain:NAME/FAMILY``."""
        raise NotImplementedError

    @classmethod
    def target_for(cls, label: str) -> str:
        """The class that a demonstration turns this one into."""
        return next(other for other in cls.labels if other != label)

    @classmethod
    def truth(cls, index: int, target: str, split: str = "test") -> np.ndarray | None:
        """The true counterfactual uint8 [H,W,3] where the factors are known, else None."""
        return None

    @classmethod
    def read_factors(cls, images: Tensor) -> Mapping[str, Tensor]:
        """Factors of images [B,3,H,W] in [0,1] as [B] by name, in the units of ``Sample.factors``; empty: unknown."""
        return {}

    @classmethod
    def record(cls) -> Mapping[str, Any]:
        """Measured figures and the training record, for ``domains show``."""
        return {}
