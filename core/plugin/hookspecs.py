"""The plugin manual: every hook of counterlens, when it is called and what it returns.

A plugin is a module (or object) whose functions carry ``hookimpl`` and these names; a distribution announces it
with an entry point in the group ``counterlens``. Built-ins come in by the same door. Keep plugin modules free
of heavy imports: import torch inside the methods of your pieces, not at the top.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.classifiers.features import Features
    from counterlens.core.conditioning.captioner import Captioner
    from counterlens.core.conditioning.directions import Direction
    from counterlens.core.data.domain import Domain
    from counterlens.core.h_space.finder import Finder
    from counterlens.core.metrics.context import Context
    from counterlens.core.metrics.metric import Metric
    from counterlens.core.models.family import Family
    from counterlens.core.problem.masker import Masker
    from counterlens.core.problem.method import Method
    from counterlens.core.problem.method_pieces import Combiner, Editor, Guidance, Inverter, Regularizer, Search
    from counterlens.core.training.trainer import Trainer

PROJECT = "counterlens"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


# --- what the project is about: pieces of methods. Called once, when the registry loads; return classes. -------


@hookspec
def counterlens_editors() -> Iterable[type[Editor]]:
    """Classes that change what flows through the loop."""
    raise NotImplementedError


@hookspec
def counterlens_guidance() -> Iterable[type[Guidance]]:
    """Classes that pull toward the target."""
    raise NotImplementedError


@hookspec
def counterlens_regularizers() -> Iterable[type[Regularizer]]:
    """Classes that penalise leaving the source."""
    raise NotImplementedError


# --- the rest of a method ---------------------------------------------------------------------------------------


@hookspec
def counterlens_inverters() -> Iterable[type[Inverter]]:
    """Classes that turn a real image into a start of a trajectory."""
    raise NotImplementedError


@hookspec
def counterlens_combiners() -> Iterable[type[Combiner]]:
    """Classes that make one prediction of the conditional branches."""
    raise NotImplementedError


@hookspec
def counterlens_directions() -> Iterable[type[Direction]]:
    """Classes that learn how an embedding moves from one class toward another."""
    raise NotImplementedError


@hookspec
def counterlens_finders() -> Iterable[type[Finder]]:
    """Classes behind ``counterlens directions find NAME``: directions in a network's activations."""
    raise NotImplementedError


@hookspec
def counterlens_trainers() -> Iterable[type[Trainer]]:
    """Classes behind ``counterlens train NAME``."""
    raise NotImplementedError


@hookspec
def counterlens_searches() -> Iterable[type[Search]]:
    """Classes that spend a method's evaluations."""
    raise NotImplementedError


@hookspec
def counterlens_maskers() -> Iterable[type[Masker]]:
    """Classes that make change maps."""
    raise NotImplementedError


@hookspec
def counterlens_captioners() -> Iterable[type[Captioner]]:
    """Classes that describe images."""
    raise NotImplementedError


@hookspec
def counterlens_metrics() -> Iterable[type[Metric]]:
    """Classes that measure counterfactuals."""
    raise NotImplementedError


@hookspec
def counterlens_methods() -> Iterable[Method]:
    """Methods: named compositions of pieces, usually ``Method.from_yaml(path)``."""
    raise NotImplementedError


# --- models and data --------------------------------------------------------------------------------------------


@hookspec
def counterlens_families() -> Iterable[type[Family]]:
    """Adapters from diffusers pipelines to the engine."""
    raise NotImplementedError


@hookspec
def counterlens_domains() -> Iterable[type[Domain]]:
    """Embedded domains."""
    raise NotImplementedError


@hookspec(firstresult=True)
def counterlens_recognise(model_index: Mapping[str, Any]) -> str | None:
    """The family's name for a ``model_index.json``; stops at the first that is not None, before the built-in rule."""


@hookspec
def counterlens_schemes() -> Mapping[str, Mapping[str, str]]:
    """The schemes of URIs that you open: ``{"data": {scheme: what it names}, "classifier": {…}, "features": {…}}``.

    They are what suggestions list, and how commands tell a data set from a picture's path.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def counterlens_open_classifier(uri: str, device: str) -> Classifier | None:
    """The classifier behind a URI whose scheme is yours, else None; stops at the first that is not None."""


@hookspec(firstresult=True)
def counterlens_architecture(name: str, classes: int) -> Any:
    """The untrained network (a torch module) of a name such as ``timm:NAME``, else None; stops at the first."""


@hookspec(firstresult=True)
def counterlens_open_dataset(uri: str) -> Any:
    """The data set behind a URI whose scheme is yours, else None; stops at the first that is not None.

    ``Dataset.part`` says that you obeyed the option ``split``; without it the images are divided by their groups.
    """


@hookspec(firstresult=True)
def counterlens_open_features(uri: str, context: Context) -> Features | None:
    """The feature extractor behind a URI whose scheme is yours, else None; stops at the first that is not None.

    ``/spatial`` at the end of the URI asks for a map of features.
    """


@hookspec(firstresult=True)
def counterlens_features_missing(uri: str, context: Context) -> str | None:
    """What is missing to open these features, in one line, without loading anything; empty when nothing is; None for
    a scheme that is not yours."""


# --- observers: called while a run goes on; what they return is ignored -----------------------------------------


@hookspec
def counterlens_run_started(manifest: Mapping[str, Any]) -> None:
    """A run has its folder and its manifest, and no item has been done."""


@hookspec
def counterlens_item_done(record: Mapping[str, Any]) -> None:
    """An image is finished (or failed) and its files are written."""


@hookspec
def counterlens_run_done(manifest: Mapping[str, Any]) -> None:
    """The last image is done and the manifest is final."""


# --- the command line -------------------------------------------------------------------------------------------


@hookspec
def counterlens_commands(group: click.Group) -> None:
    """Add commands to ``counterlens``; called once, before the arguments are parsed."""


@hookspec
def counterlens_report_sections(report: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Further sections for ``report.html`` as (title, HTML); called once a report."""
    raise NotImplementedError


@hookspec
def counterlens_doctor() -> Iterable[Mapping[str, str]]:
    """Checks of the environment as {name, status (ok|missing|broken), detail, fix}, for ``counterlens doctor``."""
    raise NotImplementedError
