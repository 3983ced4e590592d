"""A training command: labelled images, a pipeline if the trainer works with one, and where the result goes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.datasets import Dataset, open_dataset
from counterlens.core.errors import PlanError, UsageError, unknown
from counterlens.core.pool import Key, Pool
from counterlens.core.prepare import device_of
from counterlens.core.shelf import pipelines_in
from counterlens.core.training_images import Recorder
from counterlens.core.uri import parse

if TYPE_CHECKING:
    from counterlens.core.pieces import Finder, Trainer
    from counterlens.core.pipeline import Pipeline
    from counterlens.core.registry import Registry

Progress = Callable[[str, int, int], None]
Notice = Callable[[str], None]


def _silent(*_: object) -> None:
    """Nothing is shown."""


@dataclass(frozen=True)
class Job:
    """What a trainer gets. ``out`` is a file or a folder that is written whole; ``model`` the pipeline's folder.

    ``test``: the images of the test part, where the data asked for is the training part of more.
    """

    registry: Registry
    dataset: Dataset
    out: Path
    pipeline: Pipeline | None = None
    model: str = ""
    device: str = "cpu"
    seed: int = 0
    strict: bool = False
    progress: Progress = _silent
    notice: Notice = _silent
    test: Dataset | None = None

    @property
    def network(self) -> Pipeline:
        """The pipeline, for trainers that asked for one."""
        assert self.pipeline is not None
        return self.pipeline


@dataclass(frozen=True)
class Networks:
    """The options of a command that say which networks, and where they run."""

    model: str = ""
    prior: str = ""
    device: str = "auto"
    dtype: str = "float32"
    offline: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


def train(
    registry: Registry,
    trainer: Trainer,
    data: str,
    out: str = "",
    networks: Networks | None = None,
    dry_run: bool = False,
    **how: Any,
) -> dict[str, Any]:
    """Run a trainer on the data of a URI; ``how``: seed, strict, progress, notice. Returns its record with ``out``.

    ``dry_run``: only say what would be done, how long it takes and how big it gets.

    UsageError and PlanError come before any weight is loaded.
    """
    networks = networks or Networks()
    dataset, test = open_dataset(registry, data), test_of(registry, data)
    path = Path(out or trainer.file)
    device = device_of(networks.device)
    if dry_run:
        classes = {"classes": dataset.counts(), **({"test": test.counts()} if test else {})}
        plan = trainer.plan(Job(registry, dataset, path, None, networks.model, device, test=test, **how))
        return {"trainer": trainer.name, "data": data, **classes, "device": device, **plan}
    with ExitStack() as stack:
        pipeline, model = None, ""
        if trainer.uses_model():
            model, family = model_of(registry, trainer, networks.model, data)
            options = {"prior": networks.prior, "offline": networks.offline}
            chosen = frozenset((name, value) for name, value in options.items() if value)
            key = Key(model, dtype=networks.dtype, device=device, options=chosen)
            pipeline = stack.enter_context(Pool().lend(key, registry.family(family).load))
        seen = Recorder(dataset)
        try:
            record = trainer.train(Job(registry, seen.dataset, path, pipeline, model, device, test=test, **how))
        finally:  # what was written before it was stopped may be used, too
            if os.environ.get("RANK", "0") == "0":  # of several processes one writes
                seen.write(path)
    return {"trainer": trainer.name, "data": data, **({"model": model} if model else {}), **record, "out": str(path)}


def test_of(registry: Registry, data: str) -> Dataset | None:
    """The test part of the data whose training part a URI asks for; None where it does not, or there is none."""
    parts = parse(data)
    if parts.text("split") != "train":
        return None
    try:
        return open_dataset(registry, str(replace(parts, options={**parts.options, "split": "test"})))
    except UsageError:
        return None


def model_of(registry: Registry, trainer: Trainer | Finder, model: str, data: str) -> tuple[str, str]:
    """(folder or id, family) of the pipeline to work with; a domain's own where none is named and one would do."""
    from counterlens.core import hub

    name, _, family = parse(model or data).path.partition("/")
    if model and (several := pipelines_in(model, registry)):
        fits = [f for f in several if trainer.wanted() <= _words(registry, f, several[f])]
        family = fits[0] if fits else next(iter(several))
        model = str(several[family])
    if not model and parse(data).scheme != "domain":
        raise UsageError("which pipeline? give --model DIR, a hub id, or domain:NAME/FAMILY (see: counterlens models)")
    if parse(model or data).scheme != "domain":
        index = hub.read_index(model)
        family = registry.recognise(index)
        _check(registry, trainer, family, index)
        return model, family
    models = registry.domain(name).models()
    if family and family not in models:
        raise unknown("pipeline", f"domain:{name}/{family}", [f"domain:{name}/{known}" for known in models])
    wanted = trainer.wanted() - {"labels", "gradient", "examples"}
    fits = [f for f in models if wanted <= _words(registry, f, models[f])]
    family = family or (fits[0] if fits else next(iter(models)))
    _check(registry, trainer, family, hub.read_index(str(models[family])))
    return str(models[family]), family


def _words(registry: Registry, family: str, folder: Path) -> frozenset[str]:
    from counterlens.core import hub

    return registry.family(family).capabilities(hub.read_index(str(folder)))


def _check(registry: Registry, trainer: Trainer | Finder, family: str, index: Mapping[str, Any]) -> None:
    wanted = trainer.wanted() - {"labels", "gradient", "examples"}  # no family gives these
    lacking = sorted(wanted - registry.family(family).capabilities(index))
    if lacking:
        able = [name for name, cls in registry.entries["family"].items() if wanted <= cls.gives]
        command = {"finder": "directions find"}.get(trainer.kind, "train")
        raise PlanError(
            f"{command} {trainer.name} needs {lacking[0]!r}, which {family} lacks; "
            f"families that have it: {', '.join(able)}"
        )
