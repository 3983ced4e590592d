"""Labelled images in memory, split by groups, with what is wrong with them said before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from counterlens.core.data.splits import split
from counterlens.core.errors import UsageError
from counterlens.core.images.fit import Picture, fit
from counterlens.core.utils.digest import image_digest
from counterlens.plugins.trainers.fitting.classifier import Part

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.data.dataset import Dataset, Example
    from counterlens.core.training.trainer import TrainJob


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """``images`` uint8 [N,3,S,S], ``truth`` [N], the rows of each part, and the full-size pixels of every image."""

    labels: tuple[str, ...]
    images: Tensor
    truth: Tensor
    rows: Mapping[str, list[int]]
    pixels: tuple[np.ndarray, ...]
    examples: tuple[Example, ...] = ()

    def hashes(self, *names: str) -> list[str]:
        """What the images of these parts are known again by."""
        return [self.examples[row].digest(self.pixels[row]) for name in names for row in self.rows[name]]

    def part(self, name: str) -> Part:
        rows = torch.tensor(self.rows[name])
        return Part(self.images[rows], self.truth[rows])

    def sizes(self) -> dict[str, int]:
        return {name: len(rows) for name, rows in self.rows.items()}

    @property
    def counts(self) -> dict[str, int]:
        return {label: int((self.truth == k).sum()) for k, label in enumerate(self.labels)}


def read_labelled(job: TrainJob, size: int, shares: Mapping[str, float]) -> LabelledImages:
    """Every readable image, its class, and its part; UsageError for classes that cannot be told apart.

    The images of ``job.test`` are the part ``test``.
    """
    labels = job.dataset.labels
    kept, pixels = _pictures(job, job.dataset)
    counts = Counter(example.label for example in kept)
    for label in labels:
        if counts[label] < 2:
            number = "one image" if counts[label] else "no image that can be read"
            raise UsageError(f"{job.dataset.uri}: class {label!r} has {number}: two at least are needed, better fifty")
    _check_shared(job, [example.label for example in kept], pixels)
    most, least = max(counts.values()), min(counts.values())
    if most > 10 * least:
        job.notice(f"{job.dataset.uri}: classes of very different size ({most} and {least} images): weighted alike")
    _probe(job, kept, pixels)
    rows = split(kept, shares, job.seed)
    if job.test:
        others, more = _pictures(job, job.test)
        rows["test"] = list(range(len(kept), len(kept) + len(others)))
        kept, pixels = kept + others, pixels + more
    arrays = [fit(Picture(p), size).pixels for p in pixels]
    images = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
    truth = torch.tensor([labels.index(example.label) for example in kept])
    return LabelledImages(
        labels=labels, images=images, truth=truth, rows=rows, pixels=tuple(pixels), examples=tuple(kept)
    )


def _pictures(job: TrainJob, dataset: Dataset) -> tuple[list[Example], list[np.ndarray]]:
    kept, pixels = [], []
    for example, found in dataset.pictures(job.strict, job.notice):
        kept.append(example)
        pixels.append(found)
        job.progress("reading", len(kept), len(dataset))
    return kept, pixels


def _probe(job: TrainJob, kept: list[Example], pixels: list[np.ndarray]) -> None:
    """Labels that a quick probe cannot learn are said before hours are spent; ``strict``: UsageError."""
    from counterlens.core.data.audit import SIDE, doubt, probe

    said = doubt(probe(np.stack([fit(Picture(p), SIDE).pixels for p in pixels]), kept, job.dataset.labels))
    if said and job.strict:
        raise UsageError(f"{job.dataset.uri}: {said}")
    if said:
        job.notice(f"{job.dataset.uri}: {said}")


def _check_shared(job: TrainJob, labels: list[str], pixels: list[np.ndarray]) -> None:
    """Classes with the same images are no classes; a few shared ones are noticed."""
    owners: dict[str, set[str]] = {}
    for label, picture in zip(labels, pixels, strict=True):
        owners.setdefault(image_digest(picture), set()).add(label)
    shared = sum(len(who) > 1 for who in owners.values())
    for label in job.dataset.labels:
        own = [who for who in owners.values() if label in who]
        if all(len(who) > 1 for who in own):
            raise UsageError(
                f"{job.dataset.uri}: every image of {label!r} is also in another class: classes must differ"
            )
    if shared:
        job.notice(f"{job.dataset.uri}: {shared} images are in more than one class")
