"""Labelled images: examples that are listed when they are asked for, and read one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from counterlens.core.errors import CounterlensError
from counterlens.core.utils.digest import digest, image_digest
from counterlens.core.utils.uri import parse_uri

if TYPE_CHECKING:
    import numpy as np


PARTS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
ENOUGH = 600  # images of a large domain that are drawn if ``first`` does not say how many
Notice = Callable[[str], None]


@dataclass(frozen=True)
class Example:
    """One labelled image: ``read()`` gives its pixels, uint8 [H,W,3]; images of one ``group`` (a patient) belong
    together. ``decode()`` gives the picture before it was cut, where ``read()`` cuts it."""

    id: str
    label: str
    group: str
    read: Callable[[], np.ndarray] = field(repr=False, compare=False)
    decode: Callable[[], np.ndarray] | None = field(default=None, repr=False, compare=False)

    def digest(self, pixels: np.ndarray | None = None) -> str:
        """The hash by which an image is known again, however it is cut; ``pixels``: what ``read()`` gave, if at
        hand."""
        if self.decode is not None:
            return image_digest(self.decode())
        return image_digest(self.read() if pixels is None else pixels)


@dataclass(frozen=True)
class Dataset:
    """Labelled images. ``examples`` are listed when first asked for; ``content()`` is the digest of what they are."""

    uri: str
    labels: tuple[str, ...]
    listed: Callable[[], tuple[Example, ...]] = field(repr=False, compare=False)
    content: Callable[[], str] = field(repr=False, compare=False)
    passed: tuple[str, ...] = ()  # files that are no images, and were passed over
    part: str = ""  # train, validation or test where these are the images of that part, all, or empty: not divided

    @cached_property
    def examples(self) -> tuple[Example, ...]:
        return self.listed()

    def __len__(self) -> int:
        return len(self.examples)

    def counts(self) -> dict[str, int]:
        """How many images each class has."""
        return {label: sum(e.label == label for e in self.examples) for label in self.labels}

    def only(self, labels: Sequence[str], most: int | None = None) -> Dataset:
        """The images of these classes, the first ``most`` of each."""

        def listed() -> tuple[Example, ...]:
            return tuple(e for label in labels for e in [x for x in self.examples if x.label == label][:most])

        return replace(self, labels=tuple(labels), listed=listed)

    def divided(self, part: str) -> Dataset:
        """The images whose groups are in a part, by the rule for data that has no parts of its own."""
        from counterlens.core.data.splits import part_of

        def listed() -> tuple[Example, ...]:
            return tuple(example for example in self.examples if part_of(example.group) == part)

        return replace(self, listed=listed, content=lambda: digest([self.content(), part]), part=part)

    def pictures(self, strict: bool = False, notice: Notice = lambda _: None) -> Iterator[tuple[Example, np.ndarray]]:
        """Every example with its pixels. Those that cannot be read are named and left out; ``strict``: UsageError."""
        skipped = 0
        for example in self.examples:
            try:
                pixels = example.read()
            except CounterlensError as error:
                if strict:
                    raise
                skipped += 1
                notice(f"left out: {error}")
                continue
            yield example, pixels
        if skipped:
            notice(f"{skipped} of {len(self)} images of {self.uri} left out; --strict stops at the first")


def refined(text: str, **options: Any) -> str:
    """The URI with these options added where they have a value; those that it has already stay."""
    uri = parse_uri(text)
    if uri.scheme == "domain":  # has parts of its own; its pictures are as they should be
        return text
    given = {key: quote(str(value), safe=" /:()[]{}|+*^$\\.,") for key, value in options.items() if value}
    return str(replace(uri, options={**given, **uri.options}))
