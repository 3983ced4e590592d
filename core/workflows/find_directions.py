"""What ``directions find`` does: networks on loan, a job, and the finder's shifts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from counterlens.core.diffusion.sites import check_site
from counterlens.core.engine.locate import locate
from counterlens.core.engine.prepare import WHICH_CLASSIFIER, prepare
from counterlens.core.engine.request import Request, gather
from counterlens.core.engine.session import Session
from counterlens.core.errors import UsageError
from counterlens.core.h_space.job import FindJob, _silent
from counterlens.core.models.model_options import ModelOptions, go_offline

if TYPE_CHECKING:
    from counterlens.core.data.dataset import Dataset
    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.h_space.finder import Finder
    from counterlens.core.h_space.job import FindRequest, Notice, Progress
    from counterlens.core.h_space.shifts import ShiftBank
    from counterlens.core.plugin.registry import Registry

SHARED = ("images", "target", "classifier", "data", "inverter", "combiner", "steps", "prompt", "seed", "batch")


def find_directions(
    registry: Registry, finder: Finder, quest: FindRequest, progress: Progress = _silent, notice: Notice = _silent
) -> ShiftBank:
    """Run a finder. UsageError and PlanError come before any weight is loaded where they can."""
    if finder.per_image and not quest.images:
        raise UsageError(f"finder {finder.name!r} works for one image: name it with --image, such as --image shapes:0")
    asked = gather(Request(images=quest.images), registry) if quest.images else []
    finder.check(asked)
    needs = dict.fromkeys(sorted(finder.wanted()), f"directions find {finder.name}")
    with open_job(registry, quest, needs, asked, progress, notice) as job:
        check_site(quest.site, job.pipeline.network().sites, job.pipeline.uri)
        bank = finder.find(job)
    return bank.with_(provenance={"finder": finder.name, "options": finder.model_dump(), **bank.provenance})


@contextmanager
def open_job(
    registry: Registry,
    quest: FindRequest,
    needs: Mapping[str, str],
    asked: Sequence[SourceImage] = (),
    progress: Progress = _silent,
    notice: Notice = _silent,
) -> Iterator[FindJob]:
    """A job with its networks on loan. ``needs``: {word: who needs it}; ``asked``: the quest's images, where they are
    read already. UsageError and PlanError come before any weight is loaded."""
    go_offline(quest.offline)
    with ExitStack() as stack:
        opened = _of_images(registry, quest, needs, asked, stack, progress) if quest.images else None
        yield replace(opened or _of_samples(registry, quest, needs, stack), progress=progress, notice=notice)


def _of_samples(registry: Registry, quest: FindRequest, needs: Mapping[str, str], stack: ExitStack) -> FindJob:
    """A job that generates its images, or inverts labelled ones."""
    domain = quest.domain or _domain_of(quest.model or "")
    uri = quest.classifier or (registry.domain(domain).classifier if domain else "")
    if "labels" in needs and not uri:
        raise UsageError(WHICH_CLASSIFIER)
    model = quest.model or (f"domain:{domain}" if domain else "")
    place = locate(registry, model, _of_pipeline(needs), revision=quest.revision, offline=quest.offline)
    examples, session, key = _examples(registry, quest, domain), Session(registry), quest.key(place.folder)
    pipeline = stack.enter_context(session.pool.lend(key, registry.family(place.family).load))
    return FindJob(
        quest=quest,
        pipeline=pipeline,
        grid=pipeline.grid(quest.steps),
        inverter=registry.make("inverter", quest.inverter),
        combiner=registry.make("combiner", quest.combiner),
        classifier=session.classifier(stack, uri, key.device) if uri else None,
        examples=examples,
    )


def _of_images(
    registry: Registry,
    quest: FindRequest,
    needs: Mapping[str, str],
    asked: Sequence[SourceImage],
    stack: ExitStack,
    progress: Progress,
) -> FindJob:
    """A job for the images named: they are fitted, scored and given a target as ``explain`` does."""
    own = {name: getattr(quest, name) for name in (*ModelOptions.model_fields, *SHARED)}
    own |= {"method": "reconstruct", "model": quest.model or (f"domain:{quest.domain}" if quest.domain else None)}
    request = Request(**{name: value for name, value in own.items() if value})
    prepared = prepare(request, registry, asked, needs=_of_pipeline(needs))
    if "labels" in needs and not prepared.classifier:
        raise UsageError(WHICH_CLASSIFIER)
    solver, ready = Session(registry).desk(stack, prepared, progress)
    problem, composition = solver.problem(ready), prepared.composition
    return FindJob(
        quest=quest,
        pipeline=solver.pipeline,
        grid=problem.scene.grid,
        inverter=composition.inverter,
        combiner=composition.combiner,
        classifier=solver.classifier,
        examples=prepared.examples,
        problem=problem,
    )


def _of_pipeline(needs: Mapping[str, str]) -> dict[str, str]:
    """What a pipeline can give of it."""
    return {word: who for word, who in needs.items() if word not in ("labels", "gradient", "examples", "trajectory")}


def _examples(registry: Registry, quest: FindRequest, domain: str) -> Dataset | None:
    uri = quest.data or (f"domain:{domain}" if domain else "")
    return registry.open_dataset(uri) if uri else None


def _domain_of(model: str) -> str:
    return model.removeprefix("domain:").partition("/")[0] if model.startswith("domain:") else ""
