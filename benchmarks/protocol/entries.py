"""The rows of a benchmark: methods with their pipelines, and controls. Plans are checked, no weight is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from counterlens.benchmarks.protocol.protocol import Protocol
from counterlens.core.data.source_image import SourceImage
from counterlens.core.engine.prepare import Prepared, prepare
from counterlens.core.engine.request import Request
from counterlens.core.errors import PlanError, UsageError, unknown
from counterlens.core.models.model_options import PipelineOptions
from counterlens.core.problem.method import Method
from counterlens.core.utils.digest import digest

if TYPE_CHECKING:
    from counterlens.benchmarks.protocol.data import BenchImage
    from counterlens.core.plugin.registry import Registry

CONTROL_VERSION = 1  # of what control rows do: another one makes other items


@dataclass(frozen=True)
class Entry:
    """A method or a control as a run knows it. ``request``: how ``explain`` would be asked, less the images;
    ``skipped``: why it does not run here; ``follows``: the rows whose results it needs;
    ``draw_of``: the row of which it is a further draw under another seed, which only its diversity is about."""

    name: str
    control: bool = False
    summary: str = ""
    request: Mapping[str, Any] | None = None
    method: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    family: str = ""
    weights: str = ""
    skipped: str = ""
    follows: tuple[str, ...] = ()
    draw_of: str = ""

    def dumped(self) -> dict[str, Any]:
        return asdict(self)

    def item(self, job: BenchImage, protocol: Protocol, classifier: str) -> str:
        """The digest of this row's work on one image: all that the result depends on, nothing of who does it."""
        how = protocol.model_dump(include={"data", "judge", "size", "fit", "tau", "seed", "batch", "dtype", "gallery"})
        what: dict[str, Any] = {
            "method": self.method,
            "family": self.family,
            "weights": self.weights,
            "follows": self.follows,
        }
        if self.request is None:
            what["control"] = [self.name, CONTROL_VERSION]
        else:
            what["settings"] = Request(images=("",), **self.request).settings()
            how.pop("gallery")
        return digest({**what, "protocol": how, "classifier": classifier, "image": job.digest, "target": job.target})


def entries(
    names: Sequence[str | Method],
    controls: Sequence[str],
    protocol: Protocol,
    registry: Registry,
    asked: SourceImage,
    **how: Any,
) -> list[Entry]:
    """The rows asked for, then the controls. ``names``: of methods, their files, methods themselves, or ``all``; one
    that does not go with the pipeline is an error when it was named, a skipped row when all were asked for. ``how``:
    further fields of the request."""
    from counterlens.benchmarks.protocol.controls import CONTROLS, FOLLOWING

    own = [registry.method(one) if isinstance(one, str) and one.endswith((".yaml", ".yml")) else one for one in names]
    methods = {**registry.entries["method"], **{one.name: one for one in own if isinstance(one, Method)}}
    every = list(names) == ["all"]
    plain = [name for name in sorted(methods) if not methods[name].control]
    named = [one if isinstance(one, str) else one.name for one in own]
    chosen = plain if every else list(dict.fromkeys(named))
    for name in (*chosen, *controls):
        if name not in methods and name not in CONTROLS:
            raise unknown("method", name, {*methods, *CONTROLS, "all"})
    found = []
    for name in dict.fromkeys((*chosen, *controls)):
        if name in methods:
            entry = _method(methods[name], protocol, registry, asked, every or name not in named, how)
            found += [entry, *_draws(entry, protocol)]
        else:
            found.append(Entry(name, control=True, summary=CONTROLS[name].summary))
    real = tuple(entry.name for entry in found if not (entry.control or entry.skipped or entry.draw_of))
    found = [Entry(**{**vars(e), "follows": real}) if e.name in FOLLOWING and e.control else e for e in found]
    if every and not real:
        raise PlanError(f"no method can run: {found[0].skipped if found else 'none is installed'}")
    return found


def _draws(entry: Entry, protocol: Protocol) -> list[Entry]:
    """Further draws of a method's row, each under its own seed."""
    if entry.request is None or entry.skipped:
        return []
    asks = [{**entry.request, "seed": protocol.seed + k} for k in range(1, protocol.draws)]
    return [
        replace(entry, name=f"{entry.name}#{k}", draw_of=entry.name, request=ask) for k, ask in enumerate(asks, start=2)
    ]


def request_of(method: str, protocol: Protocol, **how: Any) -> dict[str, Any]:
    """How ``explain`` is asked for a method under a protocol."""
    pipeline = protocol.model_dump(include=set(PipelineOptions.model_fields), exclude_defaults=True)
    values = {
        "method": method,
        "classifier": protocol.classifier,
        "judge": protocol.judge or None,
        "tau": protocol.tau,
        "seed": protocol.seed,
        "fit": protocol.fit,
        "batch": protocol.batch,
        **pipeline,
        **how,
    }
    return {key: value for key, value in values.items() if value is not None}


def _method(
    method: Method, protocol: Protocol, registry: Registry, asked: SourceImage, lenient: bool, how: Mapping[str, Any]
) -> Entry:
    from counterlens.core.engine.session import weights_of

    request = request_of(method.name, protocol, **how)
    about: dict[str, Any] = {"control": method.control, "summary": method.summary, "method": method.model_dump()}
    try:
        prepared = prepared_for(Entry(method.name, request=request, **about), [asked], registry)
    except PlanError as error:
        if not lenient:
            raise
        return Entry(method.name, skipped=str(error), **about)
    return Entry(
        method.name,
        request=request,
        model=request.get("model") or f"domain:{prepared.domain}/{prepared.family}",
        family=prepared.family,
        weights=digest(weights_of(prepared.key.model, prepared.key.adapters)),
        **about,
    )


def prepared_for(entry: Entry, asked: Sequence[SourceImage], registry: Registry, device: str = "") -> Prepared:
    """The entry's request for these images, planned; the method is the entry's own, whatever is installed."""
    if entry.request is None:
        raise UsageError(f"{entry.name} is a control: there is nothing to plan")
    values = {**entry.request, **({"device": device} if device else {})}
    request = Request(images=tuple(one.name for one in asked), **values)
    return prepare(request, registry, asked, method=Method(**entry.method))
