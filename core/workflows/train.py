"""What ``train`` does: data opened, a pipeline on loan if the trainer works with one, and its record."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.data.training_images import Recorder
from counterlens.core.engine.locate import locate
from counterlens.core.errors import UsageError
from counterlens.core.models.device import device_of
from counterlens.core.models.model_options import ModelOptions, go_offline
from counterlens.core.models.pool import Pool
from counterlens.core.training.trainer import TrainJob
from counterlens.core.utils.uri import parse_uri

if TYPE_CHECKING:
    from counterlens.core.data.dataset import Dataset
    from counterlens.core.engine.locate import Location
    from counterlens.core.plugin.registry import Registry
    from counterlens.core.training.trainer import Trainer


def train(
    registry: Registry,
    trainer: Trainer,
    data: str,
    out: str = "",
    networks: ModelOptions | None = None,
    dry_run: bool = False,
    **how: Any,
) -> dict[str, Any]:
    """Run a trainer on the data of a URI; ``how``: seed, strict, progress, notice. Returns its record with ``out``.

    ``dry_run``: only say what would be done, how long it takes and how big it gets.

    UsageError and PlanError come before any weight is loaded.
    """
    networks = networks or ModelOptions()
    go_offline(networks.offline)
    dataset, test = registry.open_dataset(data), test_of(registry, data)
    device = device_of(networks.device)
    job = TrainJob(
        catalogue=registry,
        dataset=dataset,
        out=Path(out or trainer.file),
        model=networks.model or "",
        device=device,
        test=test,
        **how,
    )
    if dry_run:
        classes = {"classes": dataset.counts(), **({"test": test.counts()} if test else {})}
        plan = trainer.plan(job)
        return {"trainer": trainer.name, "data": data, **classes, "device": device, **plan}
    with ExitStack() as stack:
        seen, used = Recorder(dataset), {}
        job = replace(job, dataset=seen.dataset, model="")
        if trainer.uses_model():
            place = _located(registry, trainer, networks, data)
            lent = Pool().lend(networks.key(place.folder), registry.family(place.family).load)
            job = replace(job, pipeline=stack.enter_context(lent), model=place.folder)
            used = {"model": place.folder}
        try:
            record = trainer.train(job)
        finally:  # what was written before it was stopped may be used, too
            if os.environ.get("RANK", "0") == "0":  # of several processes one writes
                seen.write(job.out)
    return {"trainer": trainer.name, "data": data, **used, **record, "out": str(job.out)}


def _located(registry: Registry, trainer: Trainer, networks: ModelOptions, data: str) -> Location:
    """The pipeline to work with; where none is named, one of the domain whose images these are."""
    where = parse_uri(data)
    own = f"domain:{where.path}" if where.scheme == "domain" else ""
    wanted = sorted(trainer.wanted() - {"labels", "gradient", "examples"})  # no family gives these
    needs = dict.fromkeys(wanted, f"train {trainer.name}")
    return locate(registry, networks.model or own, needs, revision=networks.revision, offline=networks.offline)


def test_of(registry: Registry, data: str) -> Dataset | None:
    """The test part of the data whose training part a URI asks for; None where it does not, or there is none."""
    parts = parse_uri(data)
    if parts.text("split") != "train":
        return None
    try:
        return registry.open_dataset(str(replace(parts, options={**parts.options, "split": "test"})))
    except UsageError:
        return None
