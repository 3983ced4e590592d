"""counterlens: why did the classifier decide so? Visual counterfactuals with diffusion models.

The public face. Names are imported when they are first used, so that ``import counterlens`` loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from counterlens import captum, train
    from counterlens.calls import explain
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.classifiers.preprocessing import Preprocessing
    from counterlens.core.conditioning.captioner import Captioner
    from counterlens.core.conditioning.directions import Direction
    from counterlens.core.data.domain import Domain, Sample
    from counterlens.core.diffusion.levels import Estimate
    from counterlens.core.diffusion.step import Step
    from counterlens.core.engine.prepare import prepare
    from counterlens.core.engine.request import Request
    from counterlens.core.engine.session import Session
    from counterlens.core.errors import CounterlensError, MissingError, PlanError, RunFailed, UsageError
    from counterlens.core.h_space.finder import Finder
    from counterlens.core.h_space.shifts import Shift, ShiftBank
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
    from counterlens.core.training.trainer import Trainer
    from counterlens.lists import add_plugin, load_pipeline, methods, pieces
    from counterlens.live import classifier
    from counterlens.measure import bench
    from counterlens.results import Explanation, Explanations

__version__ = "0.1.0"

# Where the public names live: calls of this package, and the rest below counterlens.core.
_CALLS = {
    "calls": ("explain",),
    "lists": ("add_plugin", "load_pipeline", "methods", "pieces"),
    "live": ("classifier",),
    "measure": ("bench",),
    "results": ("Explanation", "Explanations"),
}
_MODULES = ("captum", "train")
_HOMES = {
    "classifiers.classifier": ("Classifier",),
    "classifiers.preprocessing": ("Preprocessing",),
    "conditioning.captioner": ("Captioner",),
    "conditioning.directions": ("Direction",),
    "data.domain": (
        "Domain",
        "Sample",
    ),
    "diffusion.levels": ("Estimate",),
    "diffusion.step": ("Step",),
    "engine.prepare": ("prepare",),
    "engine.request": ("Request",),
    "engine.session": ("Session",),
    "errors": (
        "CounterlensError",
        "MissingError",
        "PlanError",
        "RunFailed",
        "UsageError",
    ),
    "h_space.finder": ("Finder",),
    "h_space.shifts": (
        "Shift",
        "ShiftBank",
    ),
    "metrics.metric": (
        "CounterfactualPair",
        "ImageMetric",
        "Metric",
        "PictureMetric",
        "RecordMetric",
        "SetMetric",
    ),
    "models.family": ("Family",),
    "models.pipeline": ("Pipeline",),
    "models.pool": ("Pool",),
    "plugin.hookspecs": ("hookimpl",),
    "plugin.registry": (
        "Registry",
        "load_registry",
    ),
    "problem.masker": ("Masker",),
    "problem.method": ("Method",),
    "problem.method_pieces": (
        "Combiner",
        "Editor",
        "Guidance",
        "Inverter",
        "Regularizer",
        "Search",
    ),
    "problem.problem": ("Problem",),
    "problem.scene": ("Scene",),
    "problem.view": ("View",),
    "training.trainer": ("Trainer",),
}
_HOME = {name: f"counterlens.{module}" for module, names in _CALLS.items() for name in names}
_HOME |= {name: f"counterlens.core.{module}" for module, names in _HOMES.items() for name in names}

__all__ = [
    "Captioner",
    "Classifier",
    "Combiner",
    "CounterfactualPair",
    "CounterlensError",
    "Direction",
    "Domain",
    "Editor",
    "Estimate",
    "Explanation",
    "Explanations",
    "Family",
    "Finder",
    "Guidance",
    "ImageMetric",
    "Inverter",
    "Masker",
    "Method",
    "Metric",
    "MissingError",
    "PictureMetric",
    "Pipeline",
    "PlanError",
    "Pool",
    "Preprocessing",
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
    "Shift",
    "ShiftBank",
    "Step",
    "Trainer",
    "UsageError",
    "View",
    "add_plugin",
    "bench",
    "captum",
    "classifier",
    "explain",
    "hookimpl",
    "load_pipeline",
    "load_registry",
    "methods",
    "pieces",
    "prepare",
    "train",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"counterlens.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'counterlens' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
