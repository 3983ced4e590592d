"""From a request to something that can run: pieces made, family known, plan walked. No weight is loaded here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from counterlens.core.data.source_image import common_domain
from counterlens.core.data.training_images import trained_parts, uris_of
from counterlens.core.engine.locate import _model, _who
from counterlens.core.engine.request import gather
from counterlens.core.errors import UsageError
from counterlens.core.images.map_file import read_map
from counterlens.core.models.device import device_of
from counterlens.core.models.lora import check_adapters
from counterlens.core.problem.method import compose
from counterlens.core.problem.plan import plan
from counterlens.core.utils.uri import parse_uri

if TYPE_CHECKING:
    from counterlens.core.conditioning.captioner import Captioner
    from counterlens.core.data.dataset import Dataset
    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.data.training_images import TrainedPart
    from counterlens.core.engine.request import Request
    from counterlens.core.models.pool import Key
    from counterlens.core.plugin.registry import Registry
    from counterlens.core.problem.method import Composition
    from counterlens.core.problem.plan import PlanRow


@dataclass(frozen=True)
class Prepared:
    """A request that has passed its plan. ``key`` names the pipeline in the pool; nothing is loaded yet."""

    request: Request
    composition: Composition
    asked: tuple[SourceImage, ...]
    family: str
    key: Key
    classifier: str
    judge: str
    domain: str
    plan: tuple[PlanRow, ...]
    given: frozenset[str]
    examples: Dataset | None = None
    captioner: Captioner | None = None
    trained: tuple[TrainedPart, ...] = ()  # those that have a record of their training images


def prepare(
    request: Request,
    registry: Registry,
    asked: list[SourceImage] | None = None,
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
        registry.make,
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
        read_map(request.map).check([one.sized for one in asked])
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
        tuple(trained_parts({**uris_of(classifier, judge, model), **_adapters(request)}, registry.domain)),
    )


def _adapters(request: Request) -> dict[str, str]:
    return {f"adapter {k}": folder for k, folder in enumerate(request.adapters, start=1)}


def _examples(request: Request, registry: Registry, domain: str) -> Dataset | None:
    """Labelled images for methods that learn from some: those asked for, else the domain's training images, else the
    training part of the data whose images are explained."""
    uri = request.data or (f"domain:{domain}" if domain else "")
    if not uri and (asked := [parse_uri(image) for image in request.images if registry.is_data(image)]):
        own = {key: value for key, value in asked[0].options.items() if key != "first"}
        uri = str(replace(asked[0], options={**own, "split": "train"}))
    return registry.open_dataset(uri) if uri else None


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


def _key(request: Request, model: str) -> Key:
    from counterlens.core.models.pool import Key

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
