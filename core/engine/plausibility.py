"""How odd a counterfactual is among real images of its class: in every record where labelled images are at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from counterlens.core.classifiers.features import Features, penultimate
from counterlens.core.errors import PlanError, UsageError
from counterlens.core.images.pixels import as_saved
from counterlens.core.metrics.real_images import FEW, RealImages

if TYPE_CHECKING:
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.engine.prepare import Prepared
    from counterlens.core.problem.scene import Scene

PER_CLASS = 100
ODD = 0.01
NO_IMAGES = "no labelled images: give --data URI"


@dataclass(eq=False)
class PlausibilityCheck:
    """Real images in the judge's features (the explained classifier's without one); ``why`` there are none."""

    reals: RealImages | None
    why: str = ""

    @classmethod
    def of(
        cls, prepared: Prepared, judge: Classifier | None, classifier: Classifier, size: tuple[int, int]
    ) -> PlausibilityCheck:
        if prepared.examples is None:
            return cls(None, NO_IMAGES)
        looker = judge or classifier
        try:
            features = Features(looker.uri, penultimate(looker), str(looker.device))
            features.of([torch.full((3, *size), 0.5)])
        except (UsageError, PlanError) as error:
            return cls(None, str(error))
        return cls(RealImages(prepared.examples, features, size, PER_CLASS))

    def rows(self, scene: Scene, image: torch.Tensor) -> list[dict[str, Any]]:
        """``plausibility`` of pictures [B,3,H,W] in [-1,1] in their targets' classes, and among how many images."""
        if self.reals is None:
            return [{"plausibility": None, "plausibility_images": 0, "plausibility_note": self.why}] * len(scene)
        labels = scene.resources.classifier.labels
        targets, sources = ([labels[int(k)] for k in part] for part in (scene.target, scene.source))
        after = self.reals.plausibility(list(as_saved(image)), targets)
        before = self.reals.plausibility(list(as_saved(scene.image).cpu()), sources)
        return [_row(*said, was, label) for said, (was, _), label in zip(after, before, targets, strict=True)]


def _row(value: float | None, count: int, before: float | None, label: str) -> dict[str, Any]:
    row: dict[str, Any] = {"plausibility": None if value is None else round(value, 4), "plausibility_images": count}
    if value is None:
        row["plausibility_note"] = f"too few real images of {label!r}"
    elif count < FEW:
        row["plausibility_note"] = f"rough: only {count} real images of {label!r}"
    elif before is not None and before <= ODD:
        row["plausibility_note"] = "the image itself is odder than the real images of its class"
    return row
