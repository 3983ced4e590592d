"""How good a direction of embeddings is, measured on images that it was not fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from counterlens.core.utils.seeds import generator

if TYPE_CHECKING:
    from counterlens.core.conditioning.directions import ClassPair, Direction


@dataclass(frozen=True)
class Quality:
    """How good a direction is on these data.

    ``auroc``: how well the projection on it (fitted on other images) tells the classes apart, 1/2 is chance.
    ``stability``: mean cosine between the directions of bootstrap samples and that of all images. ``length``: of the
    step, where class means lie ``distance`` apart. ``n``: images of the source and the target class.
    """

    auroc: float
    stability: float
    length: float
    distance: float
    n: tuple[int, int]


def quality(direction: Direction, pair: ClassPair, folds: int = 5, samples: int = 20, seed: int = 0) -> Quality:
    """Cross-validated AUROC of the projection, and stability over bootstrap samples."""
    g = generator(seed)
    whole = mean_step(direction, pair)
    cosines = []
    for _ in range(samples):
        rows = (torch.randint(len(part), (len(part),), generator=g) for part in (pair.source, pair.target))
        cosines.append(torch.cosine_similarity(whole, mean_step(direction, pair.take(*rows)), 0))
    return Quality(
        auroc=held_out_auroc(direction, pair, folds, g),
        stability=float(torch.stack(cosines).mean()),
        length=float(whole.norm()),
        distance=float(pair.delta.norm()),
        n=(len(pair.source), len(pair.target)),
    )


def mean_step(direction: Direction, pair: ClassPair) -> Tensor:
    """The step [D] that a direction makes of the source class, on average."""
    return direction.fit(pair)(pair.source).mean(0)


def held_out_auroc(direction: Direction, pair: ClassPair, folds: int, g: torch.Generator) -> float:
    """AUROC of the projection, each image scored by a direction that did not see it."""
    folds = max(2, min(folds, len(pair.source), len(pair.target)))
    parts = [torch.randperm(len(p), generator=g) % folds for p in (pair.source, pair.target)]
    scores, truth = [], []
    for fold in range(folds):
        inside = [torch.nonzero(part != fold)[:, 0] for part in parts]
        outside = [torch.nonzero(part == fold)[:, 0] for part in parts]
        w = normalize(mean_step(direction, pair.take(*inside)), dim=0)
        held = pair.take(*outside)
        # every fold has its own direction: their zero is the middle of the classes that it saw
        seen = pair.take(*inside)
        middle = (seen.source.mean(0) + seen.target.mean(0)) / 2
        scores += [(held.source - middle) @ w, (held.target - middle) @ w]
        truth += [torch.zeros(len(held.source)), torch.ones(len(held.target))]
    return auroc(torch.cat(scores), torch.cat(truth) > 0)


def auroc(scores: Tensor, positive: Tensor) -> float:
    """Share of (positive, negative) pairs in the right order; ties count one half. scores [N], positive bool [N]."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive.cpu().numpy(), scores.double().cpu().numpy()))
