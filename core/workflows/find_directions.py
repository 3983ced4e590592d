"""What ``directions find`` does: networks on loan, a job, and the finder's shifts."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from counterlens.core.diffusion.sites import check_site
from counterlens.core.errors import UsageError
from counterlens.core.h_space.job import FindJob, _silent

if TYPE_CHECKING:
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.data.dataset import Dataset
    from counterlens.core.h_space.finder import Finder
    from counterlens.core.h_space.job import FindRequest, Notice, Progress
    from counterlens.core.h_space.shifts import ShiftBank
    from counterlens.core.plugin.registry import Registry


def find_directions(
    registry: Registry, finder: Finder, quest: FindRequest, progress: Progress = _silent, notice: Notice = _silent
) -> ShiftBank:
    """Run a finder. UsageError and PlanError come before any weight is loaded where they can."""
    with ExitStack() as stack:
        job = open_job(registry, finder, quest, stack, progress, notice)
        check_site(quest.site, job.pipeline.network().sites, job.pipeline.uri)
        bank = finder.find(job)
    return bank.with_(provenance={"finder": finder.name, "options": finder.model_dump(), **bank.provenance})


def open_job(
    registry: Registry,
    finder: Finder,
    quest: FindRequest,
    stack: ExitStack,
    progress: Progress = _silent,
    notice: Notice = _silent,
) -> FindJob:
    """A job with its networks on loan until ``stack`` closes."""
    if finder.per_image and not quest.images:
        raise UsageError(f"finder {finder.name!r} works for one image: name it with --image, such as --image shapes:0")
    if quest.images:
        return _of_images(registry, finder, quest, stack, progress, notice)
    from counterlens.core.engine.locate import model_of
    from counterlens.core.models.device import device_of
    from counterlens.core.models.pool import Key, Pool

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
    registry: Registry, finder: Finder, quest: FindRequest, stack: ExitStack, progress: Progress, notice: Notice
) -> FindJob:
    """A job for the images named: they are fitted, scored and given a target as ``explain`` does."""
    from counterlens.core.engine.prepare import prepare
    from counterlens.core.engine.request import Request, gather
    from counterlens.core.engine.session import Session
    from counterlens.core.errors import PlanError

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
    from counterlens.core.models.pool import Key

    return stack.enter_context(pool.lend(Key(uri, device=device), lambda _: registry.open_classifier(uri, device)))


def _examples(registry: Registry, quest: FindRequest, domain: str) -> Dataset | None:

    uri = quest.data or (f"domain:{domain}" if domain else "")
    return registry.open_dataset(uri) if uri else None


def _domain_of(model: str) -> str:
    return model.removeprefix("domain:").partition("/")[0] if model.startswith("domain:") else ""
