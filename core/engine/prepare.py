"""From a request to something that can run: pieces made, family known, plan walked. No weight is loaded here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from counterlens.core.data.source_image import common_domain
from counterlens.core.data.training_images import trained_parts, uris_of
from counterlens.core.engine.locate import locate
from counterlens.core.engine.request import gather
from counterlens.core.errors import UsageError
from counterlens.core.images.map_file import read_map
from counterlens.core.models.lora import check_adapters
from counterlens.core.models.model_options import go_offline
from counterlens.core.problem.method import compose
from counterlens.core.problem.plan import demands, plan
from counterlens.core.utils.uri import parse_uri

if TYPE_CHECKING:
    from counterlens.core.conditioning.captioner import Captioner
    from counterlens.core.data.dataset import Dataset
    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.data.training_images import TrainedPart
    from counterlens.core.engine.locate import Location
    from counterlens.core.engine.request import Request
    from counterlens.core.models.pool import Key
    from counterlens.core.plugin.registry import Registry
    from counterlens.core.problem.method import Composition, Method
    from counterlens.core.problem.plan import PlanRow

WHICH_CLASSIFIER = "which classifier? give --classifier URI, such as file:model.safetensors or timm:resnet18"


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
    asked: Sequence[SourceImage] = (),
    *,
    method: Method | None = None,
    needs: Mapping[str, str] | None = None,
    notice: Callable[[str], None] = lambda _: None,
) -> Prepared:
    """Check names, images and the plan; raises UsageError or PlanError before anything heavy is touched.

    ``asked``: the request's images, where they are read already. ``method``: instead of the one that the request
    names. ``needs``: {word: who needs it} of the pipeline, for a task that explains nothing (an inversion, a sample):
    of the method only what makes the trajectory is left then, and no classifier has to be there.
    """
    go_offline(request.offline)
    composition = _composition(request, registry, method, needs is None)
    inputs = _inputs(request, registry, composition, asked, notice, needs is None)
    if not inputs.classifier:
        composition = _blind(composition)
    location = _located(request, registry, composition, inputs, needs or {})
    rows = plan(composition, registry, location.family, inputs.given | location.words)
    nets = uris_of(inputs.classifier, inputs.judge, location.folder)
    nets |= {f"adapter {k}": folder for k, folder in enumerate(request.adapters, start=1)}
    return Prepared(
        request=request,
        composition=composition,
        asked=inputs.asked,
        family=location.family,
        key=request.key(location.folder),
        classifier=inputs.classifier,
        judge=inputs.judge,
        domain=inputs.domain,
        plan=tuple(rows),
        given=inputs.given | location.words,
        examples=inputs.examples,
        captioner=inputs.captioner,
        trained=tuple(trained_parts(nets, registry.domain)),
    )


def _composition(request: Request, registry: Registry, method: Method | None, explains: bool) -> Composition:
    """The method with what the request adds and replaces; without what looks at a target where nothing is explained."""
    if request.errors and request.target is not None:
        raise UsageError("--errors: the target is each image's own label; leave --target out")
    named = ("guidance", "regularizers", "inverter", "combiner", "search", "steps", "tau")
    changes = {name: getattr(request, name) for name in named}
    composed = partial(compose, registry.make, method or registry.method(request.method), **changes)
    composition = composed(editors=request.editors)
    if request.map and not _takes_map(composition):  # a map that nothing else takes is held, never ignored
        composition = composed(editors=(*request.editors, "change-map"))
    if request.directions:
        composition = _with_directions(composition, request.directions)
    if explains:
        return composition
    return composition.model_copy(
        update={"guidance": (), "regularizers": (), "search": registry.make("search", "once")}
    )


def _blind(composition: Composition) -> Composition:
    """The composition without the editors that ask a classifier."""
    able = tuple(editor for editor in composition.editors if not editor.wanted() & {"labels", "gradient"})
    return composition.model_copy(update={"editors": able})


@dataclass(frozen=True)
class Inputs:
    """What a request is about: images, their domain if they share one, who looks at them, what is learned from."""

    asked: tuple[SourceImage, ...]
    domain: str
    classifier: str
    judge: str
    examples: Dataset | None
    captioner: Captioner | None
    given: frozenset[str]


def _inputs(
    request: Request,
    registry: Registry,
    composition: Composition,
    asked: Sequence[SourceImage],
    notice: Callable[[str], None],
    explains: bool,
) -> Inputs:
    """Images and data opened, and found to go with the pieces."""
    asked = tuple(asked or gather(request, registry, notice))
    captioner = registry.make("captioner", request.captioner) if request.captioner else None
    for piece in [*composition.pieces(), *([captioner] if captioner else [])]:
        piece.check(asked)
    if request.map:
        read_map(request.map).check([one.sized for one in asked])
    domain = common_domain(asked)
    own = registry.domain(domain) if domain else None
    classifier = request.classifier or (own.classifier if own else "")
    if explains and not classifier:
        raise UsageError(WHICH_CLASSIFIER)
    examples = _examples(request, registry, domain)
    words = {"labels": classifier, "gradient": classifier, "map": request.map, "examples": examples is not None}
    return Inputs(
        asked=asked,
        domain=domain,
        classifier=classifier,
        judge=request.judge or (own.judge if own else ""),
        examples=examples,
        captioner=captioner,
        given=frozenset(word for word, there in words.items() if there),
    )


def _located(
    request: Request, registry: Registry, composition: Composition, inputs: Inputs, needs: Mapping[str, str]
) -> Location:
    """The pipeline of the request, else of the images' domain, that gives what the method and the task need."""
    refiner = {"refiner": "--refiner"} if request.refiner else {}
    wanted = {**demands(composition, inputs.given), **needs, **refiner}
    uri = request.model or f"domain:{inputs.domain}"
    check_adapters(request.adapters)
    return locate(registry, uri, wanted, composition.method.prefers, request.revision, request.offline)


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
