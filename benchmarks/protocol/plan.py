"""From a suite and names to everything a run is about: rows, images, items. No pipeline is loaded."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from counterlens.benchmarks.protocol.data import BenchImage, check_split, digest_of, jobs, open_data, sized, title_of
from counterlens.benchmarks.protocol.entries import Entry, entries
from counterlens.benchmarks.protocol.metrics import checked
from counterlens.benchmarks.protocol.protocol import Protocol
from counterlens.benchmarks.protocol.suite import Suite
from counterlens.core.data.source_image import SourceImage
from counterlens.core.data.training_images import trained_parts, uris_of
from counterlens.core.errors import UsageError
from counterlens.core.models.model_options import go_offline
from counterlens.core.utils.digest import digest

if TYPE_CHECKING:
    from counterlens.core.engine.session import Session
    from counterlens.core.plugin.registry import Registry
    from counterlens.core.problem.method import Method

REAL = {"nearest-real", "real"}  # controls that show training images
NAMED = 5  # images that a line names
FORCE = "--force goes on, and says so in the report"


@dataclass(frozen=True)
class Plan:
    """A run before it begins. ``items``: the digest of every row on every image; ``notes``: what a reader must know."""

    suite: Suite
    entries: tuple[Entry, ...]
    jobs: tuple[BenchImage, ...]
    items: Mapping[str, tuple[str, ...]]
    device: str
    notes: tuple[str, ...] = ()

    @property
    def protocol(self) -> Protocol:
        return self.suite.protocol

    @property
    def digest(self) -> str:
        """What makes two runs the same one: the protocol and all items."""
        return digest({"protocol": self.protocol.hash, "items": self.items, "device": self.device.partition(":")[0]})

    def manifest(self) -> dict[str, Any]:
        """The birth certificate of a run; workers need nothing else."""
        from counterlens.core.engine.manifest import versions

        return {
            "kind": "bench",
            "suite": self.suite.name,
            "summary": self.suite.summary,
            "protocol": self.protocol.dumped(),
            "rows": [entry.dumped() for entry in self.entries],
            "images": [job.dumped() for job in self.jobs],
            "items": {row: list(found) for row, found in self.items.items()},
            "notes": list(self.notes),
            "device": self.device,
            "versions": versions(),
            "platform": f"{platform.system()} {platform.machine()}, Python {sys.version.split()[0]}",
        }


def plan(
    suite: Suite,
    methods: Sequence[str | Method],
    session: Session,
    *,
    device: str = "auto",
    controls: Sequence[str] | None = None,
    skip_unavailable: bool = False,
    split: str = "",
    force: bool = False,
    **how: Any,
) -> Plan:
    """Everything checked that can be: names, plans, metrics and their weights, data; then the images are chosen.

    ``how``: further fields of every method's request (steps, editors, offload, …). Raises UsageError, PlanError or
    MissingError before any pipeline is loaded; UsageError for networks that were trained on the images, which
    ``force`` makes a note.
    """
    from counterlens.core.models.device import device_of

    device = device_of(device)
    go_offline(how.get("offline", False))
    suite.check()
    registry = session.registry
    data = open_data(suite.protocol.data, registry)
    check_split(data, split or suite.protocol.split)
    suite = _completed(suite, session)
    chosen = suite.controls if controls is None else tuple(controls)
    first = data.sample(0, split or suite.protocol.split)
    asked = SourceImage(
        name="first", picture=_picture(first, suite.protocol), domain=_domain(suite.protocol), label=first.label
    )
    found = entries(methods, chosen, suite.protocol, registry, asked, **how)
    if REAL & {entry.name for entry in found}:
        _check_gallery(data, suite.protocol)
    suite, notes = checked(suite, registry, skip_unavailable)
    with ExitStack() as stack:
        classifier = session.classifier(stack, suite.protocol.classifier, device)
        if not classifier.differentiable:
            found = [replace(e, skipped="the classifier has no gradient") if e.name == "pgd" else e for e in found]
        images = jobs(suite.protocol, data, classifier, split)
        name = classifier.digest
    if seen := trained_on(suite.protocol, found, data, images, registry):
        if not force:
            raise UsageError(f"{'; '.join(seen)}: a benchmark needs images that nobody saw (--split test); {FORCE}")
        notes = [*notes, *(f"{line}: the numbers are not about new images (--force)" for line in seen)]
    items = {e.name: tuple(e.item(job, suite.protocol, name) for job in images) for e in found if not e.skipped}
    return Plan(suite=suite, entries=tuple(found), jobs=tuple(images), items=items, device=device, notes=tuple(notes))


def _check_gallery(data: Any, protocol: Protocol) -> None:
    """Whether there are training images for the controls that choose among them."""
    try:
        check_split(data, "train")
    except UsageError as error:
        named = " and ".join(sorted(REAL))
        raise UsageError(f"{error}; {named} choose among training images: leave them out with --controls") from None


def trained_on(
    protocol: Protocol, found: Sequence[Entry], data: Any, images: Sequence[BenchImage], registry: Registry
) -> list[str]:
    """A line for every network that has images of the benchmark in its training record."""
    uris = uris_of(protocol.classifier, protocol.judge, protocol.model or "")
    for entry in found:
        uris |= {f"pipeline of {entry.name}": entry.model}
        adapters = (entry.request or {}).get("adapters", ())
        uris |= {f"adapter {k}": folder for k, folder in enumerate(adapters, start=1)}
    uris = {what: uri for uri, what in {uri: what for what, uri in reversed(uris.items())}.items()}  # each uri once
    nets = trained_parts(uris, registry.domain)
    hashes = [digest_of(data, job.index, job.split) for job in images] if nets else []
    lines = []
    for net in nets:
        seen = [title_of(data, job) for job, own in zip(images, hashes, strict=True) if own in net.images]
        shown = ", ".join(seen[:NAMED]) + (f" and {len(seen) - NAMED} more" if len(seen) > NAMED else "")
        lines += [f"{net.name} was trained on {len(seen)} of the {len(images)} images ({shown})"] if seen else []
    return lines


def _completed(suite: Suite, session: Session) -> Suite:
    """The suite with the classifiers of its domain where it names none."""
    protocol = suite.protocol
    if (domain := _domain(protocol)) and not protocol.classifier:
        own = session.registry.domain(domain)
        suite = suite.with_(classifier=own.classifier, judge=protocol.judge or own.judge)
    if not suite.protocol.classifier:
        raise UsageError("which classifier? give --classifier URI, such as file:model.safetensors or timm:resnet18")
    return suite


def _domain(protocol: Protocol) -> str:
    return protocol.data.removeprefix("domain:") if protocol.data.startswith("domain:") else ""


def _picture(sample: Any, protocol: Protocol) -> Any:
    from counterlens.core.images.fit import Picture

    return sized(Picture(sample.pixels), protocol)
