"""Feature extractors whose weights are given by path: the scheme of a URI, who opens it, what is missing of it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import MissingError

if TYPE_CHECKING:
    from counterlens.core.classifiers.features import Features
    from counterlens.core.metrics.context import Context

ADVICE = {
    "inception": "the FID port of Inception-v3 (pt_inception-2015-12-05-6726825d)",
    "vggface2": "a VGGFace2 ResNet-50",
    "simsiam": "SimSiam's ResNet-50 with its projector",
    "clip": "a CLIP model's folder",
}


def knows(uri: str) -> bool:
    """Whether the URI of an extractor is one of ours."""
    return uri.partition(":")[0] in ADVICE


def path_of(uri: str, context: Context) -> Path | None:
    """The path in ``SCHEME:PATH``, else that of the context's weights; ``/spatial`` at the end is no part of it."""
    scheme, _, given = uri.removesuffix("/spatial").partition(":")
    return context.path(given, scheme)


def missing(uri: str, context: Context) -> str:
    """What is missing of the extractor, in one line; loads nothing."""
    scheme, path = uri.removesuffix("/spatial").partition(":")[0], path_of(uri, context)
    if path is None:
        return f"no weights of {ADVICE[scheme]}: write {scheme}:PATH of a .safetensors file"
    return "" if path.exists() else f"{path} does not exist: give the path of {ADVICE[scheme]}"


def opened(uri: str, context: Context) -> Features:
    """The extractor behind a URI; MissingError when its weights are not there."""
    from counterlens.core.classifiers.features import Features

    if why := missing(uri, context):
        raise MissingError(why)
    scheme = uri.removesuffix("/spatial").partition(":")[0]
    module: Any = import_module(f"{__name__}.{scheme}")
    extract = module.extractor(path_of(uri, context), context.device, uri.endswith("/spatial"))
    return Features(uri, extract, context.device, context.batch)
