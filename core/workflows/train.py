"""What ``train`` does: data opened, a pipeline on loan if the trainer works with one, and its record."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.data.training_images import Recorder
from counterlens.core.engine.locate import model_of
from counterlens.core.errors import UsageError
from counterlens.core.models.device import device_of
from counterlens.core.models.pool import Key, Pool
from counterlens.core.training.trainer import TrainJob
from counterlens.core.utils.uri import parse_uri

if TYPE_CHECKING:
    from counterlens.core.data.dataset import Dataset
    from counterlens.core.plugin.registry import Registry
    from counterlens.core.training.trainer import Trainer


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
    dataset, test = registry.open_dataset(data), test_of(registry, data)
    path = Path(out or trainer.file)
    device = device_of(networks.device)
    if dry_run:
        classes = {"classes": dataset.counts(), **({"test": test.counts()} if test else {})}
        plan = trainer.plan(TrainJob(registry, dataset, path, None, networks.model, device, test=test, **how))
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
            record = trainer.train(TrainJob(registry, seen.dataset, path, pipeline, model, device, test=test, **how))
        finally:  # what was written before it was stopped may be used, too
            if os.environ.get("RANK", "0") == "0":  # of several processes one writes
                seen.write(path)
    return {"trainer": trainer.name, "data": data, **({"model": model} if model else {}), **record, "out": str(path)}


def test_of(registry: Registry, data: str) -> Dataset | None:
    """The test part of the data whose training part a URI asks for; None where it does not, or there is none."""
    parts = parse_uri(data)
    if parts.text("split") != "train":
        return None
    try:
        return registry.open_dataset(str(replace(parts, options={**parts.options, "split": "test"})))
    except UsageError:
        return None
