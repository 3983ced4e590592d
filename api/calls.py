"""``counterlens.explain``: one call from a picture and a classifier to a counterfactual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import UsageError
from counterlens.inputs import is_one, names_of, pictures_of
from counterlens.live import LiveObjects, classifier
from counterlens.results import Explanation, Explanations

if TYPE_CHECKING:
    from counterlens.core.engine.session import Session

LIVE = LiveObjects()


@lru_cache(maxsize=1)
def session() -> Session:
    """What calls share: everything installed, and the networks that are loaded already."""
    from counterlens.core.engine.session import Session
    from counterlens.core.plugin.registry import load_registry

    return Session(load_registry(extra={"live objects": LIVE}), together=True)


def explain(
    images: Any,
    model: Any = None,
    target: str | int | None = None,
    *,
    pipeline: str | PathLike[str] | None = None,
    method: str = "guided",
    judge: Any = None,
    labels: Sequence[str] | None = None,
    preprocessing: Any = None,
    out: str | PathLike[str] | None = None,
    progress: bool = True,
    notice: Callable[[str], None] | None = None,
    **options: Any,
) -> Explanation | Explanations:
    """The nearest realistic picture that the classifier decides otherwise.

    ``images``: a path, PIL image, array [H,W,3] uint8 or in [0,1], tensor [3,H,W] in [0,1], or many of them (a list, a
    batch, a torch data set or loader, a URI such as ``folder:DIR?split=test`` or ``shapes:0``).
    ``model``: the classifier: an ``nn.Module``, a function of images that answers probabilities, a ``Classifier``, or a
    URI (``timm:resnet18``, ``file:model.safetensors``); left out for images of an embedded domain, which has its own.
    ``target``: the class to turn into, by name or index; the runner-up if not given.
    ``pipeline``: a folder in diffusers' layout, a hub id, or ``domain:NAME/FAMILY``: what makes realistic pictures.
    ``method``: see ``counterlens.methods()``. ``judge``: an independent classifier that only reports.
    ``labels``, ``preprocessing``: of a network that does not carry them; see ``counterlens.classifier``.
    ``out``: a folder where the run is kept, as on the command line; nothing is kept on disk without it.
    ``options``: every other option of the command line by its name: ``steps``, ``tau``, ``seed``, ``editors``,
    ``guidance``, ``map``, ``data``, ``device``, ``batch`` (see ``counterlens explain --help``).

    An ``Explanation`` for one picture, ``Explanations`` (a sequence) for several. An image that fails is a result with
    ``failure``, not an exception. Raises UsageError and PlanError, in one line, for what cannot be asked.
    """
    from counterlens.core.engine.prepare import prepare
    from counterlens.core.engine.request import Request

    shared = session()
    given = {"model": None if pipeline is None else str(pipeline), "method": method, **options}
    if model is not None:
        given["classifier"] = _uri(model, labels, preprocessing)
    if judge is not None:
        given["judge"] = _uri(judge, labels, preprocessing)
    if target is not None:
        given["target"] = str(target)
    names, asked = names_of(images), []
    if names is None:
        asked = pictures_of(images, _known_labels(given.get("classifier")))
        names = [one.name for one in asked]
    _known(Request, given)
    request = Request(images=tuple(names), **given)
    hear = notice or _silent
    prepared = prepare(request, shared.registry, asked, notice=hear)
    with TemporaryDirectory(prefix="counterlens-") as folder:
        records = shared.run(prepared, Path(out or folder), progress=bar(progress), notice=hear)
        found = Explanations(Explanation.read(record) for record in records)
    alone = is_one(images) and len(found) == 1
    return found[0] if alone else found


def _silent(*_: object) -> None:
    """Nothing is shown."""


def _uri(model: Any, labels: Sequence[str] | None, preprocessing: Any) -> str:
    """The URI of a classifier that is given as one, or as an object of this process."""
    if isinstance(model, str):
        return model
    about = (None if labels is None else tuple(labels), repr(preprocessing))
    return LIVE.uri_of(model, about, lambda: classifier(model, labels, preprocessing))


def _known_labels(uri: str | None) -> tuple[str, ...]:
    """The labels of a classifier of this process, which numbers of a data set stand for."""
    if uri and uri.startswith("object:"):
        return LIVE.classifier_of(uri).labels
    return ()


def _known(model: Any, options: dict[str, Any]) -> None:
    """UsageError with a suggestion for an option that there is not."""
    from counterlens.core.errors import unknown

    for name in options:
        if name not in model.model_fields:
            raise unknown("option", name, model.model_fields)
    if isinstance(options.get("editors"), str):
        raise UsageError("editors: give a list of 'NAME key=value'")


def bar(shown: bool) -> Callable[[str, int, int], None]:
    """Progress as a bar, in notebooks a widget where they have one."""
    if not shown:
        return _silent
    from tqdm.auto import tqdm

    shown_bar: Any = None

    def show(what: str, done: int, total: int) -> None:
        nonlocal shown_bar
        if shown_bar is None and done < total:
            shown_bar = tqdm(total=total, leave=False)
        if shown_bar is not None:
            shown_bar.total, shown_bar.n = total, done
            shown_bar.set_description(what)
            if done >= total:
                shown_bar.close()
                shown_bar = None

    return show
