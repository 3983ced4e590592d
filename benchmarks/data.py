"""The data of a protocol, and the images of it that a run is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from counterlens.benchmarks.folders import Folder, Listed
from counterlens.core.digest import image_digest
from counterlens.core.domain import Domain
from counterlens.core.errors import UsageError, unknown
from counterlens.core.images import Picture, fit, to_tensor
from counterlens.core.request import Asked
from counterlens.core.uri import parse

if TYPE_CHECKING:
    from counterlens.benchmarks.protocol import Protocol
    from counterlens.core.classifier import Classifier
    from counterlens.core.registry import Registry


@dataclass(frozen=True)
class Job:
    """An image of a run: its place in the data, its content, what it is and what it shall become."""

    name: str
    index: int
    split: str
    digest: str  # of the picture as it is in the data
    label: str
    source: str  # what the explained classifier decides
    target: str

    def dumped(self) -> dict[str, Any]:
        return asdict(self)


def open_data(uri: str, registry: Registry) -> type[Domain] | Domain:
    """The data behind a URI, as something that can do what a domain can; UsageError for what nobody opens."""
    where = parse(uri)
    if where.scheme == "domain":
        return registry.domain(where.path)
    if where.scheme in ("folder", ""):
        return Folder.open(where)
    found = registry.pm.hook.counterlens_open_dataset(uri=uri)
    if found is None:
        raise unknown("data scheme", where.scheme, ("domain", "folder"))
    return Listed(found)


def asked_of(data: Any, job: Job, protocol: Protocol) -> Asked:
    """The image of a job as the engine takes it; UsageError when the data is no longer what it was."""
    sample = data.sample(job.index, job.split)
    if image_digest(sample.pixels) != job.digest:
        raise UsageError(f"{job.name}: the picture is another than when the run began; start anew with --again always")
    picture = sized(Picture(sample.pixels), protocol)
    return Asked(
        name=job.name,
        picture=picture,
        label=sample.label,
        caption=sample.caption,
        domain=data.name if parse(protocol.data).scheme == "domain" else "",
        index=job.index,
        target=job.target,
    )


def sized(picture: Picture, protocol: Protocol) -> Picture:
    """The picture at the protocol's size, if it has one."""
    return Picture(fit(picture, protocol.size, protocol.fit).pixels) if protocol.size else picture


def jobs(protocol: Protocol, data: Any, classifier: Classifier, split: str = "") -> list[Job]:
    """The first images of the split that the direction and the population let in, up to the limit."""
    split, found = split or protocol.split, []
    for index in range(data.length(split)):
        sample = data.sample(index, split)
        decided, second = _decided(sample, protocol, classifier)
        target = target_of(protocol, data, decided, second)
        if target is None or (protocol.population == "correct" and decided != sample.label):
            continue
        name = f"{getattr(data, 'name', protocol.data)}:{index}"
        found.append(Job(name, index, split, image_digest(sample.pixels), sample.label, decided, target))
        if len(found) == protocol.limit:
            break
    if not found:
        raise UsageError(f"{protocol.data}: no image of split {split!r} goes with the direction of the protocol")
    return found


def _decided(sample: Any, protocol: Protocol, classifier: Classifier) -> tuple[str, str]:
    """The two most probable classes. One image at a time: the decision must not depend on neighbours."""
    import torch

    pixels = sized(Picture(sample.pixels), protocol).pixels
    image = (to_tensor(pixels)[None] / 2 + 0.5).to(classifier.device)
    with torch.no_grad():
        first, second = classifier.probabilities(image)[0].argsort(descending=True)[:2].tolist()
    return classifier.contract.labels[first], classifier.contract.labels[second]


def target_of(protocol: Protocol, data: Any, decided: str, second: str) -> str | None:
    """What an image decided as ``decided`` shall become; None when the direction says nothing about it."""
    if isinstance(protocol.direction, Mapping):
        return protocol.direction.get(decided)
    return second if protocol.direction == "runner-up" else data.target_for(decided)


def gallery(protocol: Protocol, data: Any) -> dict[str, np.ndarray]:
    """Real training images by label, uint8 [n,H,W,3]: what real-image controls choose from."""
    count = min(protocol.gallery, data.length("train"))
    by_label: dict[str, list[np.ndarray]] = {}
    for index in range(count):
        sample = data.sample(index, "train")
        by_label.setdefault(sample.label, []).append(sized(Picture(sample.pixels), protocol).pixels)
    return {label: np.stack(pictures) for label, pictures in by_label.items()}
