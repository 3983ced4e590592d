"""The data of a protocol, and the images of it that a run is about."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from counterlens.core.data.dataset import Example
from counterlens.core.data.domain import Domain, Sample
from counterlens.core.data.source_image import SourceImage
from counterlens.core.errors import UsageError, unknown
from counterlens.core.images.fit import Picture, fit
from counterlens.core.images.pixels import to_tensor, unit
from counterlens.core.utils.digest import image_digest
from counterlens.core.utils.uri import Uri, parse_uri

if TYPE_CHECKING:
    from counterlens.benchmarks.protocol.protocol import Protocol
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.data.dataset import Dataset
    from counterlens.core.plugin.registry import Registry


DOMAIN_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class BenchImage:
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


class Parts(Domain):
    """Labelled images as ``explain`` and ``train`` open them, asked for by part and number as those of a domain are.

    The images of a part are in the order of the hashes of their names, so that the first ones are of all classes.
    """

    def __init__(self, uri: Uri, registry: Registry) -> None:
        if "split" in uri.options:
            raise UsageError(f"{uri}: the part is the protocol's split, and not an option of its data")
        self.uri, self.registry = uri, registry
        self.name, self.labels = Path(uri.path).name, self._open("all").labels  # type: ignore[misc]
        self.parts: dict[str, list[Example]] = {}

    def length(self, split: str = "test") -> int:  # type: ignore[override]
        return len(self._part(split))

    def sample(self, index: int, split: str = "test") -> Sample:  # type: ignore[override]
        example = self.example(index, split)
        return Sample(pixels=example.read(), label=example.label)

    def example(self, index: int, split: str) -> Example:
        """An image as core lists it; UsageError with the range."""
        part = self._part(split)
        if not 0 <= index < len(part):
            raise UsageError(f"{self.uri} has {len(part)} {split} images (0 to {len(part) - 1}), not {index}")
        return part[index]

    def target_for(self, label: str) -> str:  # type: ignore[override]
        """The next class in their order."""
        if label not in self.labels:
            raise unknown("class", label, self.labels)
        return self.labels[(self.labels.index(label) + 1) % len(self.labels)]

    def _part(self, split: str) -> list[Example]:
        if split not in self.parts:
            self.parts[split] = sorted(self._open(split).examples, key=_order)
        return self.parts[split]

    def _open(self, split: str) -> Dataset:
        asked = {**self.uri.options, "split": split}
        return self.registry.open_dataset(str(replace(self.uri, options=asked)))


def _order(example: Example) -> str:
    return hashlib.sha256(example.id.encode()).hexdigest()


def open_data(uri: str, registry: Registry) -> type[Domain] | Domain:
    """The data behind a URI, as something that can do what a domain can; UsageError for what nobody opens."""
    where = parse_uri(uri)
    if where.scheme != "domain":
        return Parts(where, registry)
    where.only()
    return registry.domain(where.path)


def check_split(data: Any, split: str) -> None:
    """UsageError for a part that the data does not have."""
    if not isinstance(data, Parts) and split not in DOMAIN_PARTS:
        raise unknown(f"split of domain {data.name!r}", split, DOMAIN_PARTS)
    if not data.length(split):
        raise UsageError(f"{getattr(data, 'uri', data.name)}: there is no image in the part {split!r}")


def digest_of(data: Any, index: int, split: str) -> str:
    """The hash by which training records know an image."""
    if isinstance(data, Parts):
        return data.example(index, split).digest()
    return image_digest(data.sample(index, split).pixels)


def title_of(data: Any, job: BenchImage) -> str:
    """What an image is called where it comes from."""
    return data.example(job.index, job.split).id if isinstance(data, Parts) else job.name


def asked_of(data: Any, job: BenchImage, protocol: Protocol) -> SourceImage:
    """The image of a job as the engine takes it; UsageError when the data is no longer what it was."""
    sample = data.sample(job.index, job.split)
    if image_digest(sample.pixels) != job.digest:
        raise UsageError(f"{job.name}: the picture is another than when the run began; start anew with --again always")
    picture = sized(Picture(sample.pixels), protocol)
    return SourceImage(
        name=job.name,
        picture=picture,
        label=sample.label,
        caption=sample.caption,
        domain=data.name if parse_uri(protocol.data).scheme == "domain" else "",
        index=job.index,
        target=job.target,
        decoded=partial(digest_of, data, job.index, job.split),
    )


def sized(picture: Picture, protocol: Protocol) -> Picture:
    """The picture at the protocol's size, if it has one."""
    return Picture(fit(picture, protocol.size, protocol.fit).pixels) if protocol.size else picture


def jobs(protocol: Protocol, data: Any, classifier: Classifier, split: str = "") -> list[BenchImage]:
    """The first images of the split that the direction and the population let in, up to the limit."""
    split, found = split or protocol.split, []
    for index in range(data.length(split)):
        sample = data.sample(index, split)
        decided, second = _decided(sample, protocol, classifier)
        target = target_of(protocol, data, decided, second)
        if target is None or (protocol.population == "correct" and decided != sample.label):
            continue
        name = f"{getattr(data, 'name', protocol.data)}:{index}"
        found.append(
            BenchImage(
                name=name,
                index=index,
                split=split,
                digest=image_digest(sample.pixels),
                label=sample.label,
                source=decided,
                target=target,
            )
        )
        if len(found) == protocol.limit:
            break
    if not found:
        raise UsageError(f"{protocol.data}: no image of split {split!r} goes with the direction of the protocol")
    return found


def _decided(sample: Any, protocol: Protocol, classifier: Classifier) -> tuple[str, str]:
    """The two most probable classes. One image at a time: the decision must not depend on neighbours."""
    import torch

    pixels = sized(Picture(sample.pixels), protocol).pixels
    image = unit(to_tensor(pixels)[None]).to(classifier.device)
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
