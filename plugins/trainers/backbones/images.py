"""Images for training a generator: all of a data set at one size, some groups of them held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from counterlens.core.data.splits import split
from counterlens.core.errors import UsageError
from counterlens.core.images.fit import Picture, fit
from counterlens.core.images.pixels import to_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.training.trainer import TrainJob

FEWEST = 20  # images; below, nothing but copies can be learned


@dataclass(frozen=True, eq=False)
class Pictures:
    """``train`` and ``held`` [N,3,S,S] in [-1,1] with their classes by part; mirrored copies follow the images."""

    labels: tuple[str, ...]
    train: Tensor
    held: Tensor
    truth: Mapping[str, Tensor]
    copies: int = 1

    @classmethod
    def read(cls, job: TrainJob, size: int, held: float, flip: bool) -> Pictures:
        """Every readable image; UsageError for too few of them."""
        kept, arrays = [], []
        for example, pixels in job.dataset.pictures(job.strict, job.notice):
            kept.append(example)
            arrays.append(fit(Picture(pixels), size).pixels)
            job.progress("reading", len(kept), len(job.dataset))
        if len(kept) < FEWEST:
            raise UsageError(
                f"{job.dataset.uri}: {len(kept)} images that can be read; a generator needs {FEWEST} at least, "
                "better hundreds"
            )
        labels = job.dataset.labels
        rows = split(kept, {"train": 1 - held, "held": held}, job.seed)
        images = to_tensor(np.stack(arrays))
        truth = torch.tensor([labels.index(example.label) for example in kept])
        train = images[rows["train"]]
        train = torch.cat([train, train.flip(-1)]) if flip else train
        classes = {name: truth[part] for name, part in rows.items()}
        return cls(labels, train.contiguous(), images[rows["held"]], classes, 1 + flip)

    def labels_of(self, part: str) -> Tensor:
        return self.truth["train"].repeat(self.copies) if part == "train" else self.truth["held"]

    def sizes(self) -> dict[str, int]:
        return {name: len(classes) for name, classes in self.truth.items()}
