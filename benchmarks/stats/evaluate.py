"""Metrics of a run: which, whether they can run, and what they say of its items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.benchmarks.protocol.data import asked_of, open_data
from counterlens.benchmarks.protocol.metrics import context, metrics
from counterlens.benchmarks.stats import estimates
from counterlens.core.images.pixels import to_unit_tensor
from counterlens.core.metrics.evaluate import column_table, evaluate
from counterlens.core.metrics.metric import CounterfactualPair

if TYPE_CHECKING:
    from counterlens.benchmarks.protocol.data import BenchImage
    from counterlens.benchmarks.protocol.protocol import Protocol
    from counterlens.core.metrics.context import Context
    from counterlens.core.metrics.metric import Column, Measure
    from counterlens.core.plugin.registry import Registry


@dataclass(frozen=True)
class Measured:
    """What was measured: values an item by row, the table's estimates, and the paired tests."""

    values: Mapping[str, list[dict[str, Any]]]
    table: list[dict[str, Any]]
    tests: list[dict[str, Any]]
    columns: Mapping[str, Column]


def measured(
    folder: Path,
    protocol: Protocol,
    jobs: Sequence[BenchImage],
    records: Mapping[str, Sequence[Mapping[str, Any] | None]],
    registry: Registry,
    device: str = "cpu",
    draws: Mapping[str, str] | None = None,
) -> Measured:
    """All metrics over the finished items of a run; ``records`` by row, None where an item is not finished.

    ``draws``: which rows are further draws of which; their pictures go beside those of the row itself.
    """
    chosen, about = metrics(protocol, registry), context(protocol, registry, device)
    known = column_table(chosen, about)
    data = open_data(protocol.data, registry)
    sources = [to_unit_tensor(asked_of(data, job, protocol).picture.pixels) for job in jobs]
    known_of = _known if any(metric.wanted() & {"truth", "factors"} for metric in chosen) else _nothing
    extras = [known_of(data, job) for job in jobs]
    values, sets, draws = {}, [], draws or {}
    for row, found in records.items():
        if row in draws:
            continue
        others = [records[name] for name, first in draws.items() if first == row and name in records]
        pairs = list(_pairs(folder, found, sources, extras, others))
        if not pairs:
            continue  # nothing is finished: there is no number
        values[row] = evaluate(chosen, pairs, about)
        sets += [{"method": row, **one} for one in _sets(chosen, jobs, sources, pairs, about)]
    image = {name: column for name, column in known.items() if column.scope == "image"}
    replicates, seed = protocol.resamples, protocol.seed
    table = [*estimates.rows(values, image, replicates, seed), *sets]
    return Measured(values, table, estimates.compare(values, image, None, replicates, seed), known)


def _sets(
    chosen: Sequence[Measure],
    jobs: Sequence[BenchImage],
    sources: Sequence[Any],
    pairs: Sequence[CounterfactualPair],
    about: Context,
) -> list[dict[str, Any]]:
    """Set metrics of a row: its counterfactuals against all real images of the run."""
    reals = [(f"{job.name} > {job.target}", source) for job, source in zip(jobs, sources, strict=True)]
    fakes = [(pair.subject, pair.counterfactual) for pair in pairs]
    return estimates.set_rows(chosen, reals, fakes, about, seed=about.seed)


def _pairs(
    folder: Path,
    records: Sequence[Mapping[str, Any] | None],
    sources: Sequence[Any],
    extras: Sequence[Mapping[str, Any]],
    draws: Sequence[Sequence[Mapping[str, Any] | None]] = (),
) -> Iterator[CounterfactualPair]:
    for k, (record, source, extra) in enumerate(zip(records, sources, extras, strict=True)):
        if record is not None:
            place = folder / "items" / str(record["digest"])
            edited = None if record.get("failure") else _picture(place / "counterfactual.png")
            before = source if edited is None or edited.shape == source.shape else _picture(place / "source.png")
            same = before.shape == source.shape
            region = None if edited is None else _map(place / "mask.png")
            others = tuple(_drawn(folder, draw[k]) for draw in draws)
            yield CounterfactualPair(record, before, edited, region=region, others=others, **(extra if same else {}))


def _drawn(folder: Path, record: Mapping[str, Any] | None) -> Any:
    """The picture of a further draw; None where it failed or is not finished."""
    done = record is not None and not record.get("failure")
    return _picture(folder / "items" / str(record["digest"]) / "counterfactual.png") if record and done else None


def _known(data: Any, job: BenchImage) -> dict[str, Any]:
    """The true counterfactual and the factors of a source, where its domain knows them."""
    truth = data.truth(job.index, job.target, job.split) if job.label == job.source else None
    return {
        "truth": None if truth is None else to_unit_tensor(truth),
        "factors": dict(data.sample(job.index, job.split).factors),
    }


def _nothing(data: Any, job: BenchImage) -> dict[str, Any]:
    """No metric asks."""
    return {}


def _picture(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return to_unit_tensor(np.asarray(image.convert("RGB")))


def _map(path: Path) -> Any:
    """The change map [1,H,W] in [0,1] of an item that had one."""
    import numpy as np
    from PIL import Image

    if not path.is_file():
        return None
    with Image.open(path) as image:
        return to_unit_tensor(np.asarray(image.convert("L")))
