"""Image embeddings of a data set by a pipeline's own image encoder: made in batches, kept by content, refused when
they belong to another encoder or other data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from counterlens.core.data.dataset import Dataset, Notice
from counterlens.core.errors import UsageError
from counterlens.core.utils.digest import image_digest
from counterlens.core.utils.weights import fingerprint

if TYPE_CHECKING:
    from counterlens.core.models.pipeline import Pipeline

FORMAT = "counterlens-embeddings-1"
Tick = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Embeddings:
    """``vectors`` [N,D] fp32 as the encoder gives them, with the id and the label of every image.

    ``encoder`` and ``data`` are digests of the network and of the images.
    """

    vectors: Tensor
    ids: tuple[str, ...]
    labels: tuple[str, ...]
    encoder: str
    data: str
    uri: str = ""

    def of(self, label: str) -> Tensor:
        """The unit embeddings [N,D] of a class; UsageError when there are fewer than two."""
        rows = [i for i, own in enumerate(self.labels) if own == label]
        if not rows:
            raise UsageError(
                f"{self.uri}: no embedding of the class {label!r}; it has {', '.join(sorted(set(self.labels)))}"
            )
        if len(rows) < 2:
            raise UsageError(f"{self.uri}: class {label!r} has one image: two at least are needed to know a class")
        return nn.functional.normalize(self.vectors[rows], dim=1)

    def counts(self) -> dict[str, int]:
        return dict(Counter(self.labels))

    def save(self, path: Path) -> None:
        """One safetensors file; ids, labels and digests are its metadata."""
        from counterlens.core.utils.weights import write_weights

        about = {"encoder": self.encoder, "data": self.data, "uri": self.uri}
        write_weights(path, {"vectors": self.vectors}, format=FORMAT, ids=self.ids, labels=self.labels, **about)

    def check(self, pipeline: Pipeline, dataset: Dataset | None = None) -> None:
        """UsageError when they are of another encoder than the pipeline's, or of other images than the data's."""
        if self.encoder != encoder_digest(pipeline):
            raise UsageError(
                f"{self.uri}: embeddings of another image encoder (or of the same one in another --dtype) than that of "
                f"{pipeline.uri}: make them again with counterlens train embeddings DATA --model {pipeline.uri}"
            )
        if dataset is not None and self.data != dataset.content():
            raise UsageError(
                f"{self.uri}: embeddings of other images than {dataset.uri}: make them again, or leave --data out"
            )


def load_embeddings(path: str | Path) -> Embeddings:
    """Embeddings of a file; UsageError when it is something else."""
    from counterlens.core.utils.weights import read_weights

    make = f"has no embeddings: make them with counterlens train embeddings DATA --out {path}"
    tensors, about = read_weights(path, FORMAT, make)
    ids, labels = (tuple(json.loads(about[key])) for key in ("ids", "labels"))
    return Embeddings(
        vectors=tensors["vectors"].float(),
        ids=ids,
        labels=labels,
        encoder=about["encoder"],
        data=about["data"],
        uri=str(path),
    )


def encoder_digest(pipeline: Pipeline) -> str:
    """What tells one image encoder from another."""
    return fingerprint(pipeline.modules[pipeline.encoder])


@torch.no_grad()
def embed(
    pipeline: Pipeline,
    dataset: Dataset,
    batch: int = 32,
    strict: bool = False,
    tick: Tick = lambda *_: None,
    notice: Notice = lambda _: None,
) -> Embeddings:
    """Embed every image that can be read, ``batch`` at a time; classes that share images are UsageErrors or noticed."""
    parts = {label: _embed(pipeline, dataset.only([label]), batch, strict, tick, notice) for label in dataset.labels}
    return _joined(pipeline, dataset, parts, notice)


def cached(
    pipeline: Pipeline, dataset: Dataset, labels: Sequence[str], most: int, tick: Tick = lambda *_: None
) -> Embeddings:
    """Embeddings of the first ``most`` images of each of these classes, from the disk cache when they are there."""
    from counterlens.core.utils.tensor_cache import Cache

    cache, parts = Cache(), {}
    for label in sorted(labels):
        what = {"what": FORMAT, "data": dataset.content(), "encoder": encoder_digest(pipeline)}
        key = cache.key({**what, "label": label, "most": most})
        kept = cache.get(key)
        if kept is None:
            kept = _embed(pipeline, dataset.only([label], most), tick=tick)
            cache.put(key, kept)
        parts[label] = kept
    return _joined(pipeline, dataset, parts)


def _embed(
    pipeline: Pipeline,
    dataset: Dataset,
    batch: int = 32,
    strict: bool = False,
    tick: Tick = lambda *_: None,
    notice: Notice = lambda _: None,
) -> dict[str, Tensor]:
    """Images of one class: ``vectors`` [N,D], ``places`` [N] in the data set, ``digests`` [N,32] of their pixels."""
    from counterlens.core.images.fit import Picture, fit
    from counterlens.core.images.pixels import to_tensor

    places = {example.id: k for k, example in enumerate(dataset.examples)}
    images, kept, seen, vectors = [], [], [], []
    for example, pixels in dataset.pictures(strict, notice):
        images.append(to_tensor(fit(Picture(pixels), pipeline.size).pixels))
        kept.append(places[example.id])
        seen.append(list(bytes.fromhex(image_digest(pixels))))
        if len(images) == batch:
            vectors.append(pipeline.embed(torch.stack(images).to(pipeline.device)).float().cpu())
            images = []
            tick("embeddings", len(kept), len(dataset))
    if images:
        vectors.append(pipeline.embed(torch.stack(images).to(pipeline.device)).float().cpu())
    if len(kept) < 2:
        number = "one image" if kept else "no image that can be read"
        raise UsageError(f"{dataset.uri}: class {dataset.labels[0]!r} has {number}: two at least are needed")
    digests = torch.tensor(seen, dtype=torch.uint8)
    return {"vectors": torch.cat(vectors), "places": torch.tensor(kept), "digests": digests}


def _joined(
    pipeline: Pipeline, dataset: Dataset, parts: Mapping[str, Mapping[str, Tensor]], notice: Notice = lambda _: None
) -> Embeddings:
    """Classes as one; UsageError when all images of one are also images of the others."""
    images = {label: {bytes(d.tolist()) for d in part["digests"]} for label, part in parts.items()}
    for label, own in images.items():
        others = {other: own & theirs for other, theirs in images.items() if other != label}
        shared = set().union(*others.values())
        if own <= shared:
            same = ", ".join(repr(other) for other, both in others.items() if both)
            raise UsageError(f"{dataset.uri}: every image of {label!r} is also one of {same}: classes must differ")
        if shared:
            notice(f"{dataset.uri}: {len(shared)} images of {label!r} are also in other classes")
    return Embeddings(
        vectors=torch.cat([part["vectors"] for part in parts.values()]),
        ids=tuple(f"{label}:{int(k)}" for label, part in parts.items() for k in part["places"]),
        labels=tuple(label for label, part in parts.items() for _ in part["places"]),
        encoder=encoder_digest(pipeline),
        data=dataset.content(),
        uri=dataset.uri,
    )
