"""Does a site carry meaning? Measured for each model: swapped activations, linear probes, flips at equal length.

For a few images per class: *swap* puts the activations of an image of another class in their place and asks whether the
decision follows; *R²* predicts the log-odds from the activation of held-out images, timestep by timestep; *flips* walks
one straight step of equal length along the gradient, the difference of class means, and a random direction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from counterlens.core.classifiers.log_odds import log_odds
from counterlens.core.errors import UsageError
from counterlens.core.h_space import gradients
from counterlens.core.h_space.injection import ActivationRecorder, AddShift, ReplaceActivation
from counterlens.core.h_space.recording import draw
from counterlens.core.images.pixels import as_saved
from counterlens.core.problem.problem import Problem

if TYPE_CHECKING:
    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.h_space.job import FindJob

KINDS = ("gradient", "mean-difference", "random")


@dataclass(frozen=True, eq=False)
class Group:
    """The images of a probe: their problem, inversion, and log-odds [B] of each one's own class against the other."""

    problem: Problem
    inversion: Inversion
    odds: Tensor


def probe(job: FindJob, sites: Sequence[str], length: float) -> Iterator[dict[str, Any]]:
    """A row for each site, best known first in the order given. The images are those of ``--image``."""
    problem = job.problem
    assert problem is not None
    decided = problem.scene.source
    if len(decided.unique()) < 2:
        raise UsageError("the images are all decided as one class: name some of another class with --image")
    if len(problem.scene) < 8:
        raise UsageError(f"{len(problem.scene)} images are too few for a probe: name 8 at least")
    inversion = problem.invert(0.0)
    with torch.no_grad():
        logits = problem.scene.resources.classifier.logits(as_saved(problem.scene.image))
    group = Group(problem, inversion, log_odds(logits, problem.scene.target))
    for k, site in enumerate(sites):
        yield _row(job, group, site, length)
        job.progress("sites", k + 1, len(sites))


def _row(job: FindJob, group: Group, site: str, length: float) -> dict[str, Any]:
    problem, inversion = group.problem, group.inversion
    recorder = ActivationRecorder((site,))
    with torch.no_grad():
        problem.walk(inversion, [recorder])
    h = recorder.stacked()[site]
    r2 = [_r2(x, group) for x in h.flatten(2).cpu()]
    row: dict[str, Any] = {
        "site": site,
        "shape": list(h.shape[2:]),
        "n": h.shape[1],
        "length": length,
        "swap": _swapped(group, h, site),
        "r2": round(max(r2), 3),
        "r2_steps": [round(value, 3) for value in r2],
    }
    for kind, v in _directions(job, group, h, site).items():
        unit = v / gradients.relative(v, h.flatten(2).norm(dim=2)).clamp_min(1e-20).view(1, -1, 1, 1, 1)
        row |= {f"{kind}{name}": value for name, value in _flips(group, length * unit, site).items()}
    return row


def _r2(x: Tensor, group: Group) -> float:
    """R² of ridge regression, in four folds, of log p(first class)/p(rest) on activations x [B,d]."""
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score

    source, odds = group.problem.scene.source.cpu(), group.odds.cpu().double()
    y = torch.where(source == source.min(), -odds, odds).numpy()  # of one class for all images
    h, predicted, fold = x.double().numpy(), np.zeros(len(y)), np.arange(len(y)) % 4
    for k in range(4):
        a, b = fold != k, fold == k
        penalty = 0.1 * np.square(h[a] - h[a].mean(0)).sum(1).mean()
        predicted[b] = Ridge(alpha=penalty).fit(h[a], y[a]).predict(h[b])
    return float(r2_score(y, predicted))


def _swapped(group: Group, h: Tensor, site: str) -> float:
    """Share of images whose decision becomes that of the image of another class whose activations they are given."""
    source = group.problem.scene.source
    other = [
        int(torch.nonzero(source != own).flatten()[k % int((source != own).sum())]) for k, own in enumerate(source)
    ]
    with torch.no_grad():
        end = group.problem.walk(group.inversion, [ReplaceActivation({site: h[:, other]})])
        decided = group.problem.score(end).argmax(1)
    return round(float((decided == source[other]).float().mean()), 3)


def _directions(job: FindJob, group: Group, h: Tensor, site: str) -> dict[str, Tensor]:
    """[T,B,…] each: toward the image's target by gradient, by class means of the other images, and by chance."""
    problem = group.problem
    zero = torch.zeros_like(h)
    inject = AddShift(zero, torch.ones(h.shape[1], device=h.device), torch.ones(len(h)), site)
    slope = gradients.target_gradient(problem, group.inversion, inject)
    gradient = gradients.steepest(slope.gradient, slope.norms)
    source, target = problem.scene.source, problem.scene.target
    means = torch.zeros_like(h)
    for row in range(h.shape[1]):
        rest = torch.arange(h.shape[1], device=h.device) != row
        own, wished = rest & (source == source[row]), rest & (source == target[row])
        wished = wished if bool(wished.any()) else rest & (source != source[row])
        means[:, row] = h[:, wished].mean(1) - h[:, own].mean(1)
    chance = draw(job.quest.seed, range(h.shape[1]), "probe", h[:, 0].shape).transpose(0, 1).to(h)
    lengths = gradient.flatten(2).norm(dim=2) / chance.flatten(2).norm(dim=2)
    return dict(zip(KINDS, (gradient, means, chance * lengths[..., None, None, None]), strict=True))


def _flips(group: Group, delta: Tensor, site: str) -> dict[str, float]:
    """Share decided as the target after one straight step, and the mean change of the picture."""
    problem = group.problem
    inject = AddShift(delta, torch.ones(delta.shape[1], device=delta.device), torch.ones(len(delta)), site)
    with torch.no_grad():
        end = problem.walk(group.inversion, [inject])
        flipped = problem.score(end).argmax(1) == problem.scene.target
        l1 = (problem.scene.picture(end).clamp(-1, 1) - problem.scene.image).abs().mean() / 2
    return {"": round(float(flipped.float().mean()), 3), "_l1": round(float(l1), 4)}
