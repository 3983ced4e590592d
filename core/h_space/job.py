"""``counterlens directions find``: what a finder gets, and what it is to be given before any weight is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from counterlens.core.errors import UsageError
from counterlens.core.h_space.recording import inverted, problem_of, sampled, scene_without_target
from counterlens.core.h_space.shifts import ShiftBank, ShiftSpace
from counterlens.core.images.fit import Picture, fit
from counterlens.core.images.pixels import as_saved, to_tensor
from counterlens.core.models.model_options import ModelOptions
from counterlens.core.utils.batched import batched
from counterlens.core.utils.memo import Memo
from counterlens.core.utils.seeds import key

if TYPE_CHECKING:
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.data.dataset import Dataset
    from counterlens.core.diffusion.levels import Level
    from counterlens.core.h_space.recording import Recorded
    from counterlens.core.h_space.shifts import Shift
    from counterlens.core.models.pipeline import Pipeline
    from counterlens.core.problem.method_pieces import Combiner, Inverter
    from counterlens.core.problem.problem import Problem


Progress = Callable[[str, int, int], None]
Notice = Callable[[str], None]


def _silent(*_: object) -> None:
    """Nothing is shown."""


class FindRequest(ModelOptions):
    """The options of ``directions find`` that every finder shares."""

    images: tuple[str, ...] = ()
    domain: str = ""
    classifier: str = ""
    data: str = ""
    target: str | None = None
    site: str = "mid.after"
    steps: int = 20
    count: int = 200
    source: str = "samples"  # samples | images
    inverter: str = "ddim"
    combiner: str = "cfg scale=1"
    eta: float = 0.0
    prompt: str = ""
    seed: int = 0
    batch: int = 16


@dataclass(frozen=True, eq=False)
class FindJob:
    """What a finder works with. ``problem``: the images named by --image, ready to be inverted, None without any.

    ``recorded`` walks over ``quest.count`` generated samples or real images, batch by batch.
    """

    quest: FindRequest
    pipeline: Pipeline
    grid: tuple[Level, ...]
    inverter: Inverter
    combiner: Combiner
    classifier: Classifier | None = None
    examples: Dataset | None = None
    problem: Problem | None = None
    progress: Progress = _silent
    notice: Notice = _silent
    memo: Memo = field(default_factory=Memo, repr=False)

    @property
    def explained(self) -> Classifier:
        """The classifier, for finders that need one."""
        if self.classifier is None:
            raise UsageError("which classifier? give --classifier URI, such as file:model.safetensors")
        return self.classifier

    def space(self, site: str = "") -> ShiftSpace:
        return ShiftSpace.of(self.pipeline, site or self.quest.site, self.grid)

    def logits(self, picture: Tensor) -> Tensor:
        """[B,K] of pictures [B,3,H,W] in about [-1,1], as they would be saved; on the CPU."""
        with torch.no_grad():
            return self.explained.logits(as_saved(picture)).cpu()

    def recorded(self, sites: Sequence[str] = (), start: int = 0) -> Iterator[Recorded]:
        """``quest.count`` images with their activations at ``sites`` (that of the quest if none are given).

        ``start``: the first one, for a finder that has the others already.
        """
        sites = tuple(sites) or (self.quest.site,)
        make = self._samples if self.quest.source == "samples" else self._images
        done = start
        for batch in make(sites, start):
            done += len(batch.numbers)
            self.progress(f"activations of {self.quest.source}", done, self.quest.count)
            yield batch

    def _samples(self, sites: Sequence[str], start: int) -> Iterator[Recorded]:
        q = self.quest
        for numbers in batched(range(start, q.count), q.batch):
            yield sampled(self._scene(self._looks(numbers), numbers), sites, numbers, q.seed, self.combiner, q.eta)

    def _images(self, sites: Sequence[str], start: int) -> Iterator[Recorded]:
        pictures = self.pictures()
        for numbers in batched(range(start, len(pictures)), self.quest.batch):
            scene = self._scene(torch.stack([pictures[n][1] for n in numbers]), numbers)
            yield inverted(problem_of(scene, self.inverter, self.combiner), sites, numbers)

    def pictures(self) -> list[tuple[str, Tensor]]:
        """``quest.count`` of the labelled images, the classes in turn: (label, [3,H,W] in [-1,1])."""
        if self.examples is None:
            raise UsageError("which images? give --data URI (a folder of class folders, or domain:NAME)")
        labels, count = self.examples.labels, self.quest.count
        chosen = self.examples.only(labels, -(-count // len(labels)))
        found: dict[str, list[Tensor]] = {label: [] for label in labels}
        for example, pixels in chosen.pictures(notice=self.notice):
            found[example.label].append(to_tensor(fit(Picture(pixels), self.pipeline.size).pixels))
        turns = zip_longest(*([(label, image) for image in images] for label, images in found.items()))
        return [one for turn in turns for one in turn if one is not None][:count]

    def _looks(self, numbers: Sequence[int]) -> Tensor:
        """Images that samples are conditioned on, where a pipeline is conditioned on images; grey ones else."""
        grey = torch.zeros(len(numbers), 3, *self.pipeline.size)
        if not self.pipeline.encoder:
            return grey
        pictures = self.memo.once("pictures", self.pictures)
        return torch.stack([pictures[n % len(pictures)][1] for n in numbers])

    def _scene(self, image: Tensor, numbers: Sequence[int]) -> Any:
        seeds = [key(self.quest.seed, n, "inversion") for n in numbers]
        prompts = [self.quest.prompt] * len(numbers)
        return scene_without_target(self.pipeline, self.classifier, image, self.grid, seeds, self.combiner, prompts)

    def bank(self, shifts: Sequence[Shift], norms: Tensor, site: str = "", **about: Any) -> ShiftBank:
        """The bank of what was found, with where it comes from."""
        q = self.quest
        source: dict[str, Any] = {"images": list(q.images)} if q.images else {"source": q.source, "count": q.count}
        provenance = {
            **source,
            "seed": q.seed,
            "eta": q.eta,
            "classifier": self.classifier.uri if self.classifier else None,
            "classifier_digest": self.classifier.digest if self.classifier else None,
            "data": self.examples.uri if self.examples is not None else None,
            **about,
        }
        return ShiftBank(self.space(site), tuple(shifts), norms, provenance)
