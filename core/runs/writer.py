"""How what became of an image is written down: its record, its pictures, what the judge says; failures too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from counterlens.core.classifiers.classifier import Classifier
from counterlens.core.images.pixels import as_saved
from counterlens.core.problem.items import Counterfactual, ScoredImage
from counterlens.core.runs.pictures import shown
from counterlens.core.runs.records import UNJUDGED, ItemRecord, judgement, pictures_of

if TYPE_CHECKING:
    from PIL import Image


class Sink(Protocol):
    """Where items go: a run's folder, or something that carries them to one."""

    @property
    def path(self) -> Path: ...

    def finished(self, item: str) -> dict[str, Any] | None: ...

    def write_item(
        self, item: str, record: Mapping[str, Any], images: Mapping[str, Image.Image | bytes]
    ) -> dict[str, Any]: ...

    def log(self, event: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Writer:
    """Records of one method in one run. ``heading``: what they share; ``keeps``: failures are items too, not only
    lines of the log. ``save``: further files (core/runs/pictures.py)."""

    run: Sink
    heading: Mapping[str, Any]
    tau: float
    classifier: Classifier
    judge: Classifier | None
    device: str = "cpu"
    keeps: bool = False
    save: tuple[str, ...] = ()

    def write(self, done: Counterfactual, one: ScoredImage, costs: Mapping[str, Any]) -> dict[str, Any]:
        """Write a finished image; returns its record."""
        labels = self.classifier.contract.labels
        path = str(self.run.path / "items" / one.item.digest / "counterfactual.png")
        found = ItemRecord.of(done, self.heading, self.tau, labels, self._judged(done, one), costs)
        record = found.model_copy(update={"counterfactual": path}).written()
        pictures = {**pictures_of(done, one.place), **shown(self.save, done, labels)}
        self.run.write_item(one.item.digest, record, pictures)
        self.run.log({"event": "item", "digest": one.item.digest, "flipped": record["flipped"]})
        return record

    def fail(self, one: ScoredImage, failure: str) -> dict[str, Any]:
        """Write down why an image has no counterfactual; returns its record."""
        record = ItemRecord.failed(failure, one, self.classifier.contract.labels, heading=self.heading).written()
        if self.keeps:
            self.run.write_item(one.item.digest, record, {})
        self.run.log({"event": "failure", "digest": one.item.digest, "failure": failure})
        return record

    def _judged(self, done: Counterfactual, one: ScoredImage) -> dict[str, Any]:
        if self.judge is None:
            return dict(UNJUDGED)
        pair = torch.stack([one.image, done.image]).to(self.device)
        with torch.no_grad():
            before, after = self.judge.probabilities(as_saved(pair)).cpu()
        return judgement(self.judge.contract.labels, before, after, one.item.target)
