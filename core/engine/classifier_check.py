"""Is the classifier read rightly? Its accuracy is measured on whatever labelled images are at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from counterlens.core.classifiers.accuracy import Accuracy, checked_accuracy, measure_accuracy
from counterlens.core.images.pixels import to_tensor, unit

if TYPE_CHECKING:
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.engine.prepare import Prepared
    from counterlens.core.plugin.registry import Registry

ENOUGH = 8  # labelled images below which an accuracy near chance says nothing


def check_classifier(prepared: Prepared, classifier: Classifier, registry: Registry) -> Accuracy | None:
    """The accuracy on labelled images, or None without any.

    A domain brings 64 of its validation images; else the images asked for count, whose label is their folder's
    name. Raises UsageError when the accuracy is near chance (``--force`` goes on).
    """
    pairs = _of_domain(prepared, classifier, registry) if prepared.domain else _of_folders(prepared, classifier)
    if not pairs:
        return None
    force = prepared.request.force
    if len(pairs) >= ENOUGH:
        size = min(p.shape[:2] for p, _ in pairs)
        images = torch.cat([_resized(unit(to_tensor(p)[None]), size) for p, _ in pairs])
        return checked_accuracy(classifier, images, [label for _, label in pairs], force=force)
    scores = [measure_accuracy(classifier, unit(to_tensor(p)[None]), [label]) for p, label in pairs]
    correct = sum(score.correct for score in scores)
    chance = 1 / len(classifier.contract.labels)
    return Accuracy(n=len(scores), correct=correct, accuracy=correct / len(scores), chance=chance, per_class={})


def _of_domain(prepared: Prepared, classifier: Classifier, registry: Registry, count: int = 64) -> list:
    domain = registry.domain(prepared.domain)
    if set(domain.labels) != set(classifier.contract.labels):
        return []
    samples = (domain.sample(i, "validation") for i in range(min(count, domain.length("validation"))))
    return [(sample.pixels, sample.label) for sample in samples]


def _of_folders(prepared: Prepared, classifier: Classifier) -> list:
    labels = classifier.contract.labels
    return [(one.picture.pixels, one.label) for one in prepared.asked if one.label in labels]


def _resized(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    import torch.nn.functional as F

    same = tuple(images.shape[-2:]) == tuple(size)
    return images if same else F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
