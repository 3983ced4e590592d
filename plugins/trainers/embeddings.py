from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import permutations
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.errors import CounterlensError, unknown
from counterlens.core.training.trainer import Trainer

if TYPE_CHECKING:
    from counterlens.core.conditioning.embeddings import Embeddings
    from counterlens.core.training.trainer import TrainJob


class EmbeddingsTrainer(Trainer):
    """CLIP embeddings of labelled images, by the pipeline's own image encoder, and how well they tell classes apart.

    For every pair of classes and every direction: held-out AUROC of the projection, and stability over bootstrap
    samples. The file serves any ordered pair: ``--editor 'arithmetic embeddings=FILE'``.
    """

    name: ClassVar[str] = "embeddings"
    needs: ClassVar[frozenset[str]] = frozenset({"image-embedding"})
    networks: ClassVar[str] = "model"
    file: ClassVar[str] = "embeddings.safetensors"
    batch: int = Field(32, description="images in one call of the encoder", ge=1)
    most: int = Field(10_000, description="images of each class, at most", ge=2)
    directions: tuple[str, ...] = Field(("mean-difference",), description="directions to judge, or: all")
    pairs: tuple[str, ...] = Field((), description="SOURCE:TARGET pairs to judge; all of them if at most six classes")

    def train(self, job: TrainJob) -> Mapping[str, Any]:
        from counterlens.core.conditioning.embeddings import embed

        dataset = job.dataset.only(job.dataset.labels, self.most)
        found = embed(job.network, dataset, self.batch, job.strict, job.progress, job.notice)
        rows = list(self._quality(job, found))
        found.save(job.out)
        return {"images": len(found.ids), "classes": found.counts(), "encoder": found.encoder[:16], "directions": rows}

    def _quality(self, job: TrainJob, found: Embeddings) -> Iterator[dict[str, Any]]:
        from counterlens.core.conditioning.direction_quality import quality
        from counterlens.core.conditioning.directions import ClassPair

        names = sorted(job.catalogue.entries_of("direction")) if "all" in self.directions else self.directions
        for source, target in self._pairs(job.dataset.labels):
            pair = ClassPair(found.of(source), found.of(target), (source, target), job.network)
            for name in names:
                piece = job.catalogue.make("direction", name)
                try:
                    row = asdict(quality(piece, pair, seed=job.seed))
                except CounterlensError as error:  # a direction that needs what this pipeline lacks
                    job.notice(f"direction {name}: {error}")
                    continue
                numbers = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
                yield {"source": source, "target": target, "direction": name, **numbers}

    def _pairs(self, labels: tuple[str, ...]) -> list[tuple[str, str]]:
        if not self.pairs:
            return [p for p in permutations(labels, 2) if p[0] < p[1]] if len(labels) <= 6 else []
        pairs = []
        for text in self.pairs:
            source, _, target = text.partition(":")
            for label in (source, target):
                if label not in labels:
                    raise unknown("class", label, labels)
            pairs.append((source, target))
        return pairs
