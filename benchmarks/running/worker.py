"""What one process does: a unit in, records out. It holds the networks; nobody else's work changes its results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from counterlens.benchmarks.protocol.controls import CONTROLS, ControlInputs
from counterlens.benchmarks.protocol.data import BenchImage, asked_of, gallery, open_data
from counterlens.benchmarks.protocol.entries import Entry, prepared_for
from counterlens.benchmarks.protocol.protocol import Protocol
from counterlens.core.engine.halved import halved
from counterlens.core.engine.scene_builder import seed_of
from counterlens.core.engine.session import Session
from counterlens.core.images.pixels import as_saved, signed, to_tensor, unit
from counterlens.core.problem.items import Counterfactual, Item, ScoredImage
from counterlens.core.runs.records import UNSPENT, ItemRecord
from counterlens.core.runs.writer import Writer
from counterlens.core.utils.tensor_cache import Cache

if TYPE_CHECKING:
    from PIL import Image

    from counterlens.benchmarks.running.units import Task
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.plugin.registry import Registry
    from counterlens.core.runs.writer import Sink


@dataclass(frozen=True)
class Filter:
    """A sink that takes only what is missing: a unit is solved whole, so that its last bits are always the same."""

    run: Sink
    missing: frozenset[str]

    @property
    def path(self) -> Path:
        return self.run.path

    def finished(self, item: str) -> dict[str, Any] | None:
        return None

    def write_item(
        self, item: str, record: Mapping[str, Any], images: Mapping[str, Image.Image | bytes]
    ) -> dict[str, Any]:
        return self.run.write_item(item, record, images) if item in self.missing else dict(record)

    def log(self, event: Mapping[str, Any]) -> None:
        """What matters is in the record."""


@dataclass
class Worker:
    """The rows, images and networks of a run in one process."""

    manifest: Mapping[str, Any]
    run: Sink
    registry: Registry
    device: str = ""

    def __post_init__(self) -> None:
        self.protocol = Protocol(**{k: v for k, v in self.manifest["protocol"].items() if k != "hash"})
        self.entries = {row["name"]: Entry(**row) for row in self.manifest["rows"]}
        self.jobs = [BenchImage(**job) for job in self.manifest["images"]]
        self.data = open_data(self.protocol.data, self.registry)
        self.session = Session(self.registry, cache=Cache())

    def do(self, task: Task) -> None:
        """All missing items of a unit. Raises what is no failure of an item (CounterlensError other than exit 1)."""
        unit = task.unit
        for name in unit.rows:
            entry = self.entries[name]
            digests = {self.manifest["items"][name][k]: k for k in unit.images}
            if task.missing & digests.keys():
                self._row(entry, digests, task)

    def _row(self, entry: Entry, digests: Mapping[str, int], task: Task) -> None:
        """One row on the images of a unit; if that cannot even begin, on fewer of them."""
        one_row = self._control if entry.request is None else self._method

        def work(part: Sequence[str], _: int) -> Iterable[None]:
            one_row(entry, {digest: digests[digest] for digest in part}, task)
            return ()

        def fail(digest: str, reason: str) -> None:
            if digest in task.missing:
                record = failed(entry, self.jobs[digests[digest]], digest, self.protocol, reason)
                self.run.write_item(digest, record, {})

        list(halved(list(digests), work, fail))

    def _asked(self, indices: Iterable[int]) -> list[SourceImage]:
        return [asked_of(self.data, self.jobs[k], self.protocol) for k in indices]

    def _method(self, entry: Entry, digests: Mapping[str, int], task: Task) -> None:
        prepared = prepared_for(entry, self._asked(digests.values()), self.registry, self.device)
        with ExitStack() as stack:
            desk, ready = self.session.desk(stack, prepared, strict=False)
            ready = [_named(one, digest) for one, digest in zip(ready, digests, strict=True)]
            writer = desk.writer(Filter(self.run, task.missing))
            for one in ready:
                if one.failure:
                    writer.fail(one, one.failure)
            todo = [one for one in ready if not one.failure]
            for _ in desk.solve(todo, writer) if todo else ():
                pass

    def _control(self, entry: Entry, digests: Mapping[str, int], task: Task) -> None:
        import time

        with ExitStack() as stack:
            device = self.device or "cpu"
            classifier = self.session.classifier(stack, self.protocol.classifier, device)
            judge = self.session.classifier(stack, self.protocol.judge, device) if self.protocol.judge else None
            begun = time.perf_counter()
            ready = [self._ready(digest, k, classifier) for digest, k in digests.items()]
            sizes = [task.sizes[k] for k in digests.values()] if task.sizes else None
            stage = ControlInputs(
                classifier=classifier,
                images=unit(torch.stack([one.image for one in ready])),
                targets=tuple(one.item.target for one in ready),
                seeds=tuple(seed_of(one.item, self.protocol.seed) for one in ready),
                real=lambda: self._gallery,
                sizes=None if sizes is None else torch.tensor(sizes),
            )
            images, gradients = CONTROLS[entry.name].make(stage)
            images = signed(as_saved(signed(images)))
            after = _probabilities(classifier, images)
            seconds = round((time.perf_counter() - begun) / len(ready), 4)
            heading = heading_of(entry, self.protocol)
            tau = self.protocol.tau or 0.9
            writer = Writer(
                run=Filter(self.run, task.missing),
                heading=heading,
                tau=tau,
                classifier=classifier,
                judge=judge,
                device=device,
                keeps=True,
            )
            for row, one in enumerate(ready):
                done = Counterfactual(
                    item=one.item,
                    image=images[row],
                    before=one.before,
                    after=after[row],
                    source=one.source,
                    target=one.target,
                )
                writer.write(done, one, {**UNSPENT, "gradient_evaluations": gradients[row], "seconds": seconds})

    def _ready(self, digest: str, k: int, classifier: Classifier) -> ScoredImage:
        """An image of a control: scored by itself, as everywhere."""
        job, (asked,) = self.jobs[k], self._asked([k])
        pixels = asked.picture.pixels
        image = to_tensor(pixels)
        label = job.label if job.label in classifier.labels else None
        item = Item(
            name=job.name,
            pixels=pixels,
            digest=digest,
            target=job.target,
            label=label,
            origin={"image_digest": asked.picture.digest},
        )
        before = _probabilities(classifier, image[None])[0]
        return ScoredImage(
            item=item,
            image=image,
            before=before,
            source=int(before.argmax()),
            target=classifier.label_index(job.target),
        )

    @cached_property
    def _gallery(self) -> dict[str, np.ndarray]:
        return gallery(self.protocol, self.data)


def _named(one: ScoredImage, digest: str) -> ScoredImage:
    return replace(one, item=replace(one.item, digest=digest))


@torch.no_grad()
def _probabilities(classifier: Classifier, images: torch.Tensor) -> torch.Tensor:
    """[B,3,H,W] in [-1,1] -> [B,K] on the CPU."""
    return classifier.probabilities(as_saved(images).to(classifier.device)).cpu()


def heading_of(entry: Entry, protocol: Protocol) -> dict[str, Any]:
    """What the records of a row have in common."""
    return {
        "method": entry.name,
        "model": entry.model,
        "family": entry.family,
        "classifier": protocol.classifier,
        "judge": protocol.judge or None,
    }


def failed(entry: Entry, job: BenchImage, digest: str, protocol: Protocol, reason: str) -> dict[str, Any]:
    """The record of an item that could not even begin, or whose worker died."""
    known: dict[str, Any] = {"source": job.source, "target": job.target, "label": job.label}
    known |= {"digest": digest, "image": job.name, "heading": heading_of(entry, protocol)}
    return ItemRecord.failed(reason, **known).written()
