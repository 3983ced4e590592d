"""counterlens: why did the classifier decide so? Visual counterfactuals with diffusion models.

The public face. Names are imported when they are first used, so that ``import counterlens`` loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from counterlens.core.classifiers.classifier import Classifier, Contract
    from counterlens.core.conditioning.captioner import Captioner
    from counterlens.core.data.domain import Domain, Sample
    from counterlens.core.diffusion.levels import Estimate
    from counterlens.core.diffusion.step import Step
    from counterlens.core.engine.prepare import prepare
    from counterlens.core.engine.request import Request
    from counterlens.core.engine.session import Session, explain
    from counterlens.core.errors import CounterlensError, MissingError, PlanError, RunFailed, UsageError
    from counterlens.core.metrics.metric import (
        CounterfactualPair,
        ImageMetric,
        Metric,
        PictureMetric,
        RecordMetric,
        SetMetric,
    )
    from counterlens.core.models.family import Family
    from counterlens.core.models.pipeline import Pipeline
    from counterlens.core.models.pool import Pool
    from counterlens.core.plugin.hookspecs import hookimpl
    from counterlens.core.plugin.registry import Registry, load_registry
    from counterlens.core.problem.masker import Masker
    from counterlens.core.problem.method import Method
    from counterlens.core.problem.method_pieces import Combiner, Editor, Guidance, Inverter, Regularizer, Search
    from counterlens.core.problem.problem import Problem
    from counterlens.core.problem.scene import Scene
    from counterlens.core.problem.view import View

__version__ = "0.1.0"

_HOMES = {
    "classifier": ("Classifier", "Contract"),
    "domain": ("Domain", "Sample"),
    "engine": ("Session", "explain"),
    "errors": ("CounterlensError", "MissingError", "PlanError", "RunFailed", "UsageError"),
    "family": ("Family",),
    "hookspecs": ("hookimpl",),
    "levels": ("Estimate",),
    "methods": ("Method",),
    "metrics": ("ImageMetric", "CounterfactualPair", "PictureMetric", "RecordMetric", "SetMetric"),
    "network": ("Step",),
    "pieces": (
        "Captioner",
        "Combiner",
        "Editor",
        "Guidance",
        "Inverter",
        "Masker",
        "Metric",
        "Regularizer",
        "Search",
    ),
    "pipeline": ("Pipeline",),
    "pool": ("Pool",),
    "prepare": ("prepare",),
    "problem": ("Problem", "View"),
    "registry": ("Registry", "load"),
    "request": ("Request",),
    "types": ("Scene",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Captioner",
    "Classifier",
    "Combiner",
    "Contract",
    "CounterlensError",
    "Domain",
    "Editor",
    "Estimate",
    "Family",
    "Guidance",
    "ImageMetric",
    "Inverter",
    "Masker",
    "Method",
    "Metric",
    "MissingError",
    "CounterfactualPair",
    "PictureMetric",
    "Pipeline",
    "PlanError",
    "Pool",
    "Problem",
    "RecordMetric",
    "Registry",
    "Regularizer",
    "Request",
    "RunFailed",
    "Sample",
    "Scene",
    "Search",
    "Session",
    "SetMetric",
    "Step",
    "UsageError",
    "View",
    "explain",
    "hookimpl",
    "load",
    "prepare",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module 'counterlens' has no attribute {name!r}")
    value = getattr(import_module(f"counterlens.core.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
