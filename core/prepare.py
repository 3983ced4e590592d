"""From a request to something that can run: pieces made, family known, plan walked. No weight is loaded here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.adapters import check_adapters
from counterlens.core.errors import PlanError, UsageError, unknown
from counterlens.core.mapfile import read_map
from counterlens.core.methods import Composition, compose
from counterlens.core.plan import Row, plan, serves
from counterlens.core.request import Asked, Request, common_domain, gather
from counterlens.core.shelf import pipelines_in
from counterlens.core.training_images import Network, named, networks
from counterlens.core.uri import parse

if TYPE_CHECKING:
    from counterlens.core.datasets import Dataset
    from counterlens.core.pieces import Captioner
    from counterlens.core.pool import Key
    from counterlens.core.registry import Registry


@dataclass(frozen=True)
class Prepared:
    """A request that has passed its plan. ``key`` names the pipeline in the pool; nothing is loaded yet."""

    request: Request
    composition: Composition
    asked: tuple[Asked, ...]
    family: str
    key: Key
    classifier: str
    judge: str
    domain: str
    plan: tuple[Row, ...]
    given: frozenset[str]
    examples: Dataset | None = None
    captioner: Captioner | None = None
    trained: tuple[Network, ...] = ()  # those that have a record of their training images


def prepare(
    request: Request,
    registry: Registry,
    asked: list[Asked] | None = None,
    notice: Callable[[str], None] = lambda _: None,
) -> Prepared:
    """Check names, images and the plan; raises UsageError or PlanError before anything heavy is touched."""
    if request.offline:  # a hub that cannot be reached is asked for a minute by its client before it gives up
        os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    if request.errors and request.target is not None:
        raise UsageError("--errors: the target is each image's own label; leave --target out")
    method = registry.method(request.method)
    composed = partial(
        compose,
        registry,
        method,
        guidance=request.guidance,
        regularizers=request.regularizers,
        inverter=request.inverter,
        combiner=request.combiner,
        search=request.search,
        steps=request.steps,
        tau=request.tau,
    )
    composition = composed(editors=request.editors)
    if request.map and not _takes_map(composition):  # a map that nothing else takes is held, never ignored
        composition = composed(editors=(*request.editors, "change-map"))
    if request.directions:
        composition = _with_directions(composition, request.directions)
    asked = asked or gather(request, registry, notice)
    captioner = registry.make("captioner", request.captioner) if request.captioner else None
    for piece in [*composition.pieces(), *([captioner] if captioner else [])]:
        piece.check(asked)
    if request.map:
        read_map(request.map).check(asked)
    domain = common_domain(asked)
    classifier, judge = _classifiers(request, registry, domain)
    examples = _examples(request, registry, domain)
    given = {"labels", "gradient"} | ({"map"} if request.map else set()) | (set() if examples is None else {"examples"})
    model, family, words = _model(request, registry, composition, domain, given)
    rows = plan(composition, registry, family, given | words)
    if request.refiner and "refiner" not in words:
        raise UsageError(f"--refiner: {family!r} has none (models of {_who(registry, 'refiner')} have)")
    key = _key(request, model)
    check_adapters(request.adapters)
    return Prepared(
        request,
        composition,
        tuple(asked),
        family,
        key,
        classifier,
        judge,
        domain,
        tuple(rows),
        frozenset(given | words),
        examples,
        captioner,
        tuple(networks(registry, {**named(classifier, judge, model), **_adapters(request)})),
    )


def _adapters(request: Request) -> dict[str, str]:
    return {f"adapter {k}": folder for k, folder in enumerate(request.adapters, start=1)}


def _examples(request: Request, registry: Registry, domain: str) -> Dataset | None:
    """Labelled images for methods that learn from some: those asked for, else the domain's training images, else the
    training part of the data whose images are explained."""
    from counterlens.core.datasets import is_data, open_dataset

    uri = request.data or (f"domain:{domain}" if domain else "")
    if not uri and (asked := [parse(image) for image in request.images if is_data(image)]):
        own = {key: value for key, value in asked[0].options.items() if key != "first"}
        uri = str(replace(asked[0], options={**own, "split": "train"}))
    return open_dataset(registry, uri) if uri else None


def _with_directions(composition: Composition, file: str) -> Composition:
    """The composition whose search and editors use this file, where they take one and name none themselves."""

    def given(piece: Any) -> Any:
        empty = getattr(piece, "directions", None) == ""
        return piece.model_copy(update={"directions": file}) if empty else piece

    found = composition.model_copy(
        update={"search": given(composition.search), "editors": tuple(map(given, composition.editors))}
    )
    if found == composition:
        raise UsageError(
            f"method {composition.method.name!r} takes no directions: use --method h-space, or add --editor h-space"
        )
    return found


def _takes_map(composition: Composition) -> bool:
    """Whether a piece of the method looks at the map that was given."""
    pieces = (*composition.editors, *composition.guidance, *composition.regularizers)
    return any(hasattr(piece, "otherwise") or "map" in piece.wanted() for piece in pieces)


def _classifiers(request: Request, registry: Registry, domain: str) -> tuple[str, str]:
    """URIs of the explained classifier and the judge; a domain has its own."""
    own = registry.domain(domain) if domain else None
    classifier = request.classifier or (own.classifier if own else "")
    if not classifier:
        raise UsageError("which classifier? give --classifier URI, such as file:model.safetensors or timm:resnet18")
    return classifier, request.judge or (own.judge if own else "")


def _model(
    request: Request, registry: Registry, composition: Composition, domain: str, given: set[str]
) -> tuple[str, str, frozenset[str]]:
    """The pipeline's folder or id, its family, and what that family gives."""
    if request.model and (several := pipelines_in(request.model, registry)):
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
    from counterlens.core import hub

    index = hub.read_index(model, request.revision, request.offline)
    family = registry.recognise(index)
    return family, registry.family(family).capabilities(index)


def _words(registry: Registry, family: str, folder: Path) -> frozenset[str]:
    from counterlens.core import hub

    return registry.family(family).capabilities(hub.read_index(str(folder)))


def _who(registry: Registry, word: str) -> str:
    """The families that give a capability."""
    return ", ".join(name for name, family in registry.entries["family"].items() if word in family.gives)


def _key(request: Request, model: str) -> Key:
    from counterlens.core.pool import Key

    options = {"offload": request.offload, "tiling": request.tiling, "offline": request.offline, "prior": request.prior}
    if request.refiner:
        options |= {"refiner": request.refiner, "hand_over": request.hand_over}
    return Key(
        model,
        revision=request.revision,
        variant=request.variant,
        dtype=request.dtype,
        device=device_of(request.device),
        adapters=request.adapters,
        options=frozenset((name, value) for name, value in options.items() if value),
    )


def device_of(name: str) -> str:
    """``auto`` is a GPU if there is one; a device that is not there is an error before anything is loaded."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device {name!r}: use cpu, cuda, cuda:N or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {name!r}: no CUDA device is available; use --device cpu")
    return name


def summary(prepared: Prepared) -> Iterator[tuple[str, Any]]:
    """What ``--dry-run`` prints above the plan."""
    method = prepared.composition.method
    yield "method", method.name
    yield "images", len(prepared.asked)
    yield "target", prepared.request.target or "the runner-up"
    yield "pipeline", f"{prepared.key.model} ({prepared.family})"
    yield "classifier", prepared.classifier
    yield "judge", prepared.judge or "none"
    yield "steps", method.steps
    yield "tau", method.tau
    yield "device", f"{prepared.key.device}, {prepared.key.dtype}"
