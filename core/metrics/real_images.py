"""How odd a picture is among real images: the share of them that lie further from their nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from counterlens.core.images.fit import Picture, fit
from counterlens.core.images.pixels import to_tensor

if TYPE_CHECKING:
    from counterlens.core.classifiers.features import Features
    from counterlens.core.data.dataset import Dataset

FEW = 20  # images of a class below which the share is a rough one


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """Features [N,D] of real images of one class, and how far each is from its ``k`` nearest others, [N]."""

    rows: Tensor
    own: Tensor
    k: int

    @classmethod
    def of(cls, rows: Tensor, k: int = 5) -> Neighbourhood:
        rows = rows.double()
        between = torch.cdist(rows, rows)
        between.fill_diagonal_(torch.inf)
        k = min(k, len(rows) - 1)
        return cls(rows, between.topk(k, largest=False).values.mean(1), k)

    def plausibility(self, x: Tensor) -> Tensor:
        """[B] of features [B,D]: a conformal p-value (Vovk et al. 2005), 0.5 is typical and 0.01 says that hardly any
        real image is as odd. A picture that is among the real images is held against the others."""
        distance = torch.cdist(x.double(), self.rows)
        distance = torch.where(distance < 1e-9, torch.full_like(distance, torch.inf), distance)
        mine = distance.topk(self.k, largest=False).values.mean(1)
        return ((self.own[None] >= mine[:, None]).sum(1) + 1) / (len(self.own) + 1)


@dataclass(eq=False)
class RealImages:
    """Labelled real images by class, in the features of an extractor; each class is read when first asked for.

    ``size`` (height, width) is what pictures are cut to, as those that are explained are.
    """

    dataset: Dataset
    features: Features
    size: tuple[int, int]
    per_class: int = 200
    k: int = 5
    known: dict[str, Neighbourhood | None] = field(default_factory=dict, repr=False)

    def of(self, label: str) -> Neighbourhood | None:
        """The real images of a class; None where there are fewer than three, or none of that name."""
        if label not in self.known:
            chosen = self.dataset.only([label], self.per_class).pictures()
            pictures = [to_tensor(fit(Picture(pixels), self.size).pixels) / 2 + 0.5 for _, pixels in chosen]
            self.known[label] = Neighbourhood.of(self.features.of(pictures), self.k) if len(pictures) > 2 else None
        return self.known[label]

    def plausibility(self, pictures: Sequence[Tensor], labels: Sequence[str]) -> list[tuple[float | None, int]]:
        """For each picture [3,H,W] in [0,1]: its plausibility among the real images of a class, and of how many."""
        said: list[tuple[float | None, int]] = []
        for picture, label in zip(pictures, labels, strict=True):
            real = self.of(label)
            value = None if real is None else float(real.plausibility(self.features.of([picture]))[0])
            said.append((value, 0 if real is None else len(real.own)))
        return said
