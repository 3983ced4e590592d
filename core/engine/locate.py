"""Which pipeline is meant: a folder, a hub id, one of a folder of several, or one of a domain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from counterlens.core.errors import PlanError, UsageError, unknown
from counterlens.core.models import hub
from counterlens.core.models.folder import pipelines_in
from counterlens.core.problem.plan import complaint
from counterlens.core.utils.uri import parse_uri

if TYPE_CHECKING:
    from counterlens.core.plugin.registry import Registry


class Location(NamedTuple):
    """A pipeline's ``folder`` or hub id, its ``family``, and the ``words`` that this pipeline gives."""

    folder: str
    family: str
    words: frozenset[str]


def locate(
    registry: Registry,
    uri: str,
    needs: Mapping[str, str],
    prefers: Sequence[str] = (),
    revision: str = "",
    offline: bool = False,
) -> Location:
    """The pipeline behind a URI; of several the first that gives what is needed, in the order of ``prefers``.

    ``needs``: {word: who needs it}. PlanError for the first word that the pipeline lacks (of several: the one that
    lacks least), UsageError or MissingError for a URI that names none. Of each only ``model_index.json`` is read.
    """
    known = [name for name in prefers]
    order = sorted(
        _candidates(registry, uri, revision, offline),
        key=lambda one: known.index(one.family) if one.family in known else len(known),
    )
    if not order:
        raise PlanError(f"{uri} has no pipeline: give --model")
    best = min(order, key=lambda one: len(needs.keys() - one.words))
    for word, who in needs.items():
        if word not in best.words:
            raise PlanError(complaint(who, word, registry, best.family))
    return best


def _candidates(registry: Registry, uri: str, revision: str, offline: bool) -> Iterator[Location]:
    """All pipelines that a URI may mean."""
    place = parse_uri(uri)
    name, _, family = place.path.partition("/")
    if not (name if place.scheme == "domain" else uri):
        raise UsageError("which pipeline? give --model DIR, a hub id, or domain:NAME/FAMILY (see: counterlens models)")
    if place.scheme == "domain":
        models: Mapping[str, Path] = registry.domain(name).models()
        if family and family not in models:
            raise unknown("pipeline", f"domain:{name}/{family}", [f"domain:{name}/{known}" for known in models])
        for found in [family] if family else models:
            words = registry.family(found).capabilities(hub.read_index(str(models[found])))
            yield Location(str(models[found]), found, words)
    elif several := pipelines_in(uri, registry.recognise):
        for found, (folder, index) in several.items():
            yield Location(str(folder), found, registry.family(found).capabilities(index))
    else:
        index = hub.read_index(uri, revision, offline)
        found = registry.recognise(index)
        yield Location(uri, found, registry.family(found).capabilities(index))
