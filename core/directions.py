"""Directions between two classes of embeddings: what they are learned from, and how good they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from counterlens.core.pieces import Direction

Move = Callable[[Tensor], Tensor]  # unit embeddings [B,D] -> their steps [B,D]


@dataclass(frozen=True, eq=False)
class Pair:
    """Unit embeddings ``source`` [N,D] and ``target`` [M,D] of two classes with their names.

    ``pipeline``: whose embeddings they are, for directions that ask it for more (words); None in plain arithmetic.
    """

    source: Tensor
    target: Tensor
    names: tuple[str, str] = ("source", "target")
    pipeline: Any = None

    @property
    def delta(self) -> Tensor:
        """mean(target) - mean(source), [D]; means of unit embeddings, not unit themselves."""
        return self.target.mean(0) - self.source.mean(0)

    def along(self, w: Tensor) -> Tensor:
        """The step [D] along ``w`` that is as long as the class means lie apart in its direction."""
        unit = w / w.norm().clamp_min(1e-12)
        return unit * (unit @ self.delta)

    def take(self, source: Tensor, target: Tensor) -> Pair:
        """The pair of these rows only."""
        return replace(self, source=self.source[source], target=self.target[target])


def constant(step: Tensor) -> Move:
    """The same step [D] for every embedding."""
    return lambda e: step.to(e).expand_as(e)


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


def quality(direction: Direction, pair: Pair, folds: int = 5, samples: int = 20, seed: int = 0) -> Quality:
    """Cross-validated AUROC of the projection, and stability over bootstrap samples."""
    g = torch.Generator().manual_seed(seed)
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


def mean_step(direction: Direction, pair: Pair) -> Tensor:
    """The step [D] that a direction makes of the source class, on average."""
    return direction.fit(pair)(pair.source).mean(0)


def held_out_auroc(direction: Direction, pair: Pair, folds: int, g: torch.Generator) -> float:
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
    order = scores[positive][:, None] - scores[~positive][None]
    return float(((order > 0).float() + 0.5 * (order == 0).float()).mean())
