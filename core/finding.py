"""``counterlens directions find``: what a finder gets, and what it is to be given before any weight is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from counterlens.core.bank import Bank, Shift, Space
from counterlens.core.errors import UsageError
from counterlens.core.images import Picture, fit, to_tensor
from counterlens.core.levels import Level
from counterlens.core.problem import Problem, as_saved
from counterlens.core.recording import Recorded, bare, batches, inverted, key, problem_of, sampled
from counterlens.core.sites import check_site

if TYPE_CHECKING:
    from counterlens.core.classifier import Classifier
    from counterlens.core.datasets import Dataset
    from counterlens.core.pieces import Combiner, Finder, Inverter
    from counterlens.core.pipeline import Pipeline
    from counterlens.core.registry import Registry

Progress = Callable[[str, int, int], None]
Notice = Callable[[str], None]


def _silent(*_: object) -> None:
    """Nothing is shown."""


@dataclass(frozen=True)
class Quest:
    """The options of ``directions find`` that every finder shares."""

    images: tuple[str, ...] = ()
    domain: str = ""
    model: str = ""
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
    device: str = "auto"
    dtype: str = "float32"
    offline: bool = False
    prior: str = ""


@dataclass(frozen=True, eq=False)
class FindJob:
    """What a finder works with. ``problem``: the images named by --image, ready to be inverted, None without any.

    ``recorded`` walks over ``quest.count`` generated samples or real images, batch by batch.
    """

    registry: Registry
    quest: Quest
    pipeline: Pipeline
    grid: tuple[Level, ...]
    inverter: Inverter
    combiner: Combiner
    classifier: Classifier | None = None
    examples: Dataset | None = None
    problem: Problem | None = None
    progress: Progress = _silent
    notice: Notice = _silent
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def explained(self) -> Classifier:
        """The classifier, for finders that need one."""
        if self.classifier is None:
            raise UsageError("which classifier? give --classifier URI, such as file:model.safetensors")
        return self.classifier

    def space(self, site: str = "") -> Space:
        return Space.of(self.pipeline, site or self.quest.site, self.grid)

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
        for numbers in batches(range(start, q.count), q.batch):
            yield sampled(self._scene(self._looks(numbers), numbers), sites, numbers, q.seed, self.combiner, q.eta)

    def _images(self, sites: Sequence[str], start: int) -> Iterator[Recorded]:
        pictures = self.pictures()
        for numbers in batches(range(start, len(pictures)), self.quest.batch):
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
        if "pictures" not in self.memo:
            self.memo["pictures"] = self.pictures()
        pictures = self.memo["pictures"]
        return torch.stack([pictures[n % len(pictures)][1] for n in numbers])

    def _scene(self, image: Tensor, numbers: Sequence[int]) -> Any:
        seeds = [key(self.quest.seed, n, "inversion") for n in numbers]
        prompts = [self.quest.prompt] * len(numbers)
        return bare(self.pipeline, self.classifier, image, self.grid, seeds, self.combiner, prompts)

    def bank(self, shifts: Sequence[Shift], norms: Tensor, site: str = "", **about: Any) -> Bank:
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
        return Bank(self.space(site), tuple(shifts), norms, provenance)


def find(
    registry: Registry, finder: Finder, quest: Quest, progress: Progress = _silent, notice: Notice = _silent
) -> Bank:
    """Run a finder. UsageError and PlanError come before any weight is loaded where they can."""
    with ExitStack() as stack:
        job = open_job(registry, finder, quest, stack, progress, notice)
        check_site(quest.site, job.pipeline.network().sites, job.pipeline.uri)
        bank = finder.find(job)
    return bank.with_(provenance={"finder": finder.name, "options": finder.model_dump(), **bank.provenance})


def open_job(
    registry: Registry,
    finder: Finder,
    quest: Quest,
    stack: ExitStack,
    progress: Progress = _silent,
    notice: Notice = _silent,
) -> FindJob:
    """A job with its networks on loan until ``stack`` closes."""
    if finder.per_image and not quest.images:
        raise UsageError(f"finder {finder.name!r} works for one image: name it with --image, such as --image shapes:0")
    if quest.images:
        return _of_images(registry, finder, quest, stack, progress, notice)
    from counterlens.core.pool import Key, Pool
    from counterlens.core.prepare import device_of
    from counterlens.core.training import model_of

    domain = quest.domain or _domain_of(quest.model)
    if not (domain or quest.model):
        raise UsageError("which pipeline? give --domain NAME, or --model DIR, a hub id, or domain:NAME/FAMILY")
    model, family = model_of(registry, finder, quest.model, f"domain:{domain}")
    chosen = frozenset((k, v) for k, v in {"prior": quest.prior, "offline": quest.offline}.items() if v)
    device = device_of(quest.device)
    uri = quest.classifier or (registry.domain(domain).classifier if domain else "")
    if "labels" in finder.wanted() and not uri:
        raise UsageError("which classifier? give --classifier URI, such as file:model.safetensors or timm:resnet18")
    examples = _examples(registry, quest, domain)
    pool = Pool()
    key_ = Key(model, dtype=quest.dtype, device=device, options=chosen)
    pipeline = stack.enter_context(pool.lend(key_, registry.family(family).load))
    classifier = _classifier(registry, uri, device, pool, stack) if uri else None
    return FindJob(
        registry,
        quest,
        pipeline,
        pipeline.grid(quest.steps),
        registry.make("inverter", quest.inverter),
        registry.make("combiner", quest.combiner),
        classifier,
        examples,
        progress=progress,
        notice=notice,
    )


def _of_images(
    registry: Registry, finder: Finder, quest: Quest, stack: ExitStack, progress: Progress, notice: Notice
) -> FindJob:
    """A job for the images named: they are fitted, scored and given a target as ``explain`` does."""
    from counterlens.core.engine import Session
    from counterlens.core.errors import PlanError
    from counterlens.core.prepare import prepare
    from counterlens.core.request import Request, gather

    request = Request(
        images=quest.images,
        target=quest.target,
        method="reconstruct",
        model=quest.model or (f"domain:{quest.domain}" if quest.domain else None),
        classifier=quest.classifier or None,
        data=quest.data or None,
        inverter=quest.inverter,
        combiner=quest.combiner,
        steps=quest.steps,
        prompt=quest.prompt or None,
        seed=quest.seed,
        batch=quest.batch,
        device=quest.device,
        dtype=quest.dtype,  # type: ignore[arg-type]
        offline=quest.offline,
        prior=quest.prior,
    )
    asked = gather(request, registry)
    finder.check(asked)
    prepared = prepare(request, registry, asked)
    if lacking := sorted(finder.wanted() - prepared.given - {"trajectory"}):
        able = [name for name, cls in registry.entries["family"].items() if finder.wanted() & cls.gives]
        raise PlanError(
            f"directions find {finder.name} needs {lacking[0]!r}, which {prepared.family} lacks; "
            f"families that have it: {', '.join(able)}"
        )
    desk, ready = Session(registry).desk(stack, prepared, progress)
    problem = desk.problem(ready)
    composition = prepared.composition
    return FindJob(
        registry,
        quest,
        desk.pipeline,
        problem.scene.grid,
        composition.inverter,
        composition.combiner,
        desk.classifier,
        prepared.examples,
        problem,
        progress,
        notice,
    )


def _classifier(registry: Registry, uri: str, device: str, pool: Any, stack: ExitStack) -> Classifier:
    from counterlens.core.classifier import open_classifier
    from counterlens.core.pool import Key

    return stack.enter_context(pool.lend(Key(uri, device=device), lambda _: open_classifier(registry, uri, device)))


def _examples(registry: Registry, quest: Quest, domain: str) -> Dataset | None:
    from counterlens.core.datasets import open_dataset

    uri = quest.data or (f"domain:{domain}" if domain else "")
    return open_dataset(registry, uri) if uri else None


def _domain_of(model: str) -> str:
    return model.removeprefix("domain:").partition("/")[0] if model.startswith("domain:") else ""
