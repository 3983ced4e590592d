"""Which pipeline is meant: a folder, a hub id, a folder of several, or a domain's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import PlanError, UsageError, unknown
from counterlens.core.models.folder import pipelines_in
from counterlens.core.problem.plan import plan, serves
from counterlens.core.utils.uri import parse_uri

if TYPE_CHECKING:
    from counterlens.core.engine.request import Request
    from counterlens.core.h_space.finder import Finder
    from counterlens.core.plugin.registry import Registry
    from counterlens.core.problem.method import Composition
    from counterlens.core.training.trainer import Trainer


def _model(
    request: Request, registry: Registry, composition: Composition, domain: str, given: set[str]
) -> tuple[str, str, frozenset[str]]:
    """The pipeline's folder or id, its family, and what that family gives."""
    if request.model and (several := pipelines_in(request.model, registry.recognise)):
        return _choose(composition, registry, request.model, several, given)
    if request.model and not request.model.startswith("domain:"):
        return request.model, *_recognised(request.model, request, registry)
    name, _, family = (request.model or f"domain:{domain}").removeprefix("domain:").partition("/")
    if not name:
        raise UsageError("which pipeline? give --model DIR, a hub id, or domain:NAME/FAMILY (see: counterlens models)")
    models = registry.domain(name).models()
    if family:
        if family not in models:
            raise unknown("pipeline", f"domain:{name}/{family}", [f"domain:{name}/{known}" for known in models])
        return str(models[family]), family, _words(registry, family, models[family])
    return _choose(composition, registry, name, models, given)


def _choose(
    composition: Composition, registry: Registry, name: str, models: Mapping[str, Path], given: set[str]
) -> tuple[str, str, frozenset[str]]:
    """The first pipeline of a domain, or of a folder of some, that the method can use, in its order of preference."""
    order = sorted(models, key=lambda family: _rank(composition.method.prefers, family))
    for family in order:
        words = _words(registry, family, models[family])
        if serves(composition, registry, family, given | words):
            return str(models[family]), family, words
    if not order:
        raise PlanError(f"domain {name!r} has no pipeline: give --model")
    words_of = {family: given | _words(registry, family, models[family]) for family in order}
    wanted = frozenset[str]().union(*(piece.wanted() for piece in composition.pieces()))
    nearest = min(order, key=lambda family: len(wanted - words_of[family]))  # whose lack says most
    plan(composition, registry, nearest, words_of[nearest])
    raise AssertionError("a plan that failed succeeded")


def _rank(prefers: tuple[str, ...], family: str) -> int:
    return prefers.index(family) if family in prefers else len(prefers)


def _recognised(model: str, request: Request, registry: Registry) -> tuple[str, frozenset[str]]:
    from counterlens.core.models import hub

    index = hub.read_index(model, request.revision, request.offline)
    family = registry.recognise(index)
    return family, registry.family(family).capabilities(index)


def _words(registry: Registry, family: str, folder: Path) -> frozenset[str]:
    from counterlens.core.models import hub

    return registry.family(family).capabilities(hub.read_index(str(folder)))


def _who(registry: Registry, word: str) -> str:
    """The families that give a capability."""
    return ", ".join(name for name, family in registry.entries["family"].items() if word in family.gives)


def model_of(registry: Registry, trainer: Trainer | Finder, model: str, data: str) -> tuple[str, str]:
    """(folder or id, family) of the pipeline to work with; a domain's own where none is named and one would do."""
    from counterlens.core.models import hub

    name, _, family = parse_uri(model or data).path.partition("/")
    if model and (several := pipelines_in(model, registry.recognise)):
        fits = [f for f in several if trainer.wanted() <= _words(registry, f, several[f])]
        family = fits[0] if fits else next(iter(several))
        model = str(several[family])
    if not model and parse_uri(data).scheme != "domain":
        raise UsageError("which pipeline? give --model DIR, a hub id, or domain:NAME/FAMILY (see: counterlens models)")
    if parse_uri(model or data).scheme != "domain":
        index = hub.read_index(model)
        family = registry.recognise(index)
        _check(registry, trainer, family, index)
        return model, family
    models = registry.domain(name).models()
    if family and family not in models:
        raise unknown("pipeline", f"domain:{name}/{family}", [f"domain:{name}/{known}" for known in models])
    wanted = trainer.wanted() - {"labels", "gradient", "examples"}
    fits = [f for f in models if wanted <= _words(registry, f, models[f])]
    family = family or (fits[0] if fits else next(iter(models)))
    _check(registry, trainer, family, hub.read_index(str(models[family])))
    return str(models[family]), family


def _check(registry: Registry, trainer: Trainer | Finder, family: str, index: Mapping[str, Any]) -> None:
    wanted = trainer.wanted() - {"labels", "gradient", "examples"}  # no family gives these
    lacking = sorted(wanted - registry.family(family).capabilities(index))
    if lacking:
        able = [name for name, cls in registry.entries["family"].items() if wanted <= cls.gives]
        command = {"finder": "directions find"}.get(trainer.kind, "train")
        raise PlanError(
            f"{command} {trainer.name} needs {lacking[0]!r}, which {family} lacks; "
            f"families that have it: {', '.join(able)}"
        )
