"""What directions do to pictures: how much every attribute changes, and how far the picture travels on its way.

The table of attributes is the protocol of Haas et al. 2024 (Table I): the same noises with and without a direction, the
mean change of every attribute. The path length is that of Karras et al. 2019, along a direction: the mean of
``d(x(s), x(s+eps)) / eps²`` for a distance d that grows with the square of a small step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from counterlens.core.diffusion.inversion import Inversion
from counterlens.core.h_space.injection import AddShift, weights_of
from counterlens.core.h_space.recording import problem_of
from counterlens.core.images.pixels import as_saved
from counterlens.core.utils.batched import batched

if TYPE_CHECKING:
    from counterlens.core.h_space.job import FindJob
    from counterlens.core.h_space.shifts import ShiftBank
    from counterlens.core.problem.problem import Problem


def _context(registry: Any, quest: Any, attributes: str = "") -> Any:
    from counterlens.core.metrics.context import Context
    from counterlens.core.models.device import device_of

    domain = quest.domain or (quest.images[0].partition(":")[0] if quest.images else "")
    domain = domain if domain in registry.entries["domain"] else ""
    return Context(registry, attributes_uri=attributes, domain_name=domain, device=device_of(quest.device), batch=32)


def distance_of(registry: Any, text: str, quest: Any) -> Any:
    """A metric of two pictures as a function; squared, unless it is LPIPS, which is a sum of squares already."""
    from counterlens.core.errors import UsageError
    from counterlens.core.metrics.metric import PictureMetric

    metric, context = registry.make("metric", text), _context(registry, quest)
    if not isinstance(metric, PictureMetric) or metric.population != "all":
        raise UsageError(f"{text!r} is no distance of two pictures: use lpips, l2, l1 or linf")
    if why := metric.missing(context):
        raise UsageError(f"{metric.name}: {why}")
    power = 1 if metric.name == "lpips" else 2
    return lambda x, y: metric.compare(x.to(context.device), y.to(context.device), (), context) ** power


def change_reader(registry: Any, job: Any, attributes: str, quest: Any) -> Any:
    """All attributes that can be read off two pictures, as absolute changes."""
    from counterlens.core.errors import UsageError

    context, readers = _context(registry, quest, attributes), []
    if job.classifier is not None:
        readers.append(_probabilities(job.classifier))
    if attributes:
        readers.append(_metric(registry.make("metric", "attribute_change"), context))
    if "factors" in context.gives:
        readers.append(_metric(registry.make("metric", "factor_change"), context))
    if not readers:
        raise UsageError("nothing reads the pictures: give --classifier, --attributes or --domain")
    read: Read = lambda x, y: {name: value for one in readers for name, value in one(x, y).items()}  # noqa: E731
    return read


def _probabilities(classifier: Any) -> Any:
    labels = classifier.labels if len(classifier.labels) > 2 else classifier.labels[:1]  # two are each other's rest

    def read(x: Any, y: Any) -> Any:
        before, after = (classifier.probabilities(p.to(classifier.device)) for p in (x, y))
        return {f"p({name})": (after - before)[:, k].abs() for k, name in enumerate(labels)}

    return read


def _metric(metric: Any, context: Any) -> Any:
    return lambda x, y: metric.compare(x.to(context.device), y.to(context.device), (), context)


TRIM = 0.01  # share of the path's pieces that is left out at either end, as Karras et al. do


def starts(job: FindJob) -> Iterator[tuple[Problem, Inversion]]:
    """What is moved: the images that were named, else generated samples, batch by batch."""
    if job.problem is not None:
        for part in map(job.problem.take, batched(range(len(job.problem.scene)), job.quest.batch)):
            yield part, part.invert(0.0)
        return
    for batch in job.recorded():
        yield problem_of(batch.scene, job.inverter, job.combiner), Inversion(batch.path[0], batch.scene.grid)


@torch.no_grad()
def moved(problem: Problem, inversion: Inversion, delta: Tensor, site: str, strengths: Sequence[float]) -> Tensor:
    """Pictures [S,B,3,H,W] in [0,1], as saved, at every strength of a shift ``delta`` [T,c,h',w']."""
    n = len(problem.scene)
    rows = [(row, strength) for strength in strengths for row in range(n)]
    parts = []
    for chosen in batched(rows, problem.batch):
        part, at = problem.take([row for row, _ in chosen]), inversion.take([row for row, _ in chosen])
        strength = torch.tensor([s for _, s in chosen], device=inversion.x.device)
        shift = AddShift(delta[:, None].to(inversion.x), strength, weights_of(len(delta)), site)
        parts.append(as_saved(part.scene.picture(part.walk(at, [shift]))).cpu())
    return torch.cat(parts).unflatten(0, (len(strengths), n))


Read = Callable[[Tensor, Tensor], Mapping[str, Tensor]]  # before, after [B,3,H,W] in [0,1] -> changes [B] by attribute


def changes(job: FindJob, bank: ShiftBank, strength: float, read: Read) -> dict[str, dict[str, float]]:
    """Mean change of every attribute under each direction, half of it at +strength and half at -strength."""
    sums: dict[str, dict[str, list[Tensor]]] = {name: {} for name in bank.names}
    for problem, inversion in starts(job):
        for k, shift in enumerate(bank.shifts):
            zero, up, down = moved(problem, inversion, shift.delta, bank.space.site, (0.0, strength, -strength))
            for after in (up, down):
                for name, value in read(zero, after).items():
                    sums[shift.name].setdefault(name, []).append(value.double().cpu())
            job.progress("directions", k + 1, len(bank.shifts))
    return {name: {key: float(torch.cat(parts).mean()) for key, parts in found.items()} for name, found in sums.items()}


def path_lengths(
    job: FindJob,
    bank: ShiftBank,
    strength: float,
    distance: Callable[[Tensor, Tensor], Tensor],
    points: int,
    eps: float,
) -> dict[str, float]:
    """Perceptual path length of each direction from -strength to strength: ``points`` places, steps of ``eps``."""
    places = torch.linspace(-strength, strength - eps, points).tolist()
    found: dict[str, list[Tensor]] = {name: [] for name in bank.names}
    for problem, inversion in starts(job):
        for shift in bank.shifts:
            both = moved(problem, inversion, shift.delta, bank.space.site, [s + e for s in places for e in (0.0, eps)])
            here, there = both[0::2].flatten(0, 1), both[1::2].flatten(0, 1)
            found[shift.name].append(distance(here, there).double().cpu() / eps**2)
    return {name: trimmed(torch.cat(parts)) for name, parts in found.items()}


def trimmed(values: Tensor, share: float = TRIM) -> float:
    """The mean without the smallest and the largest ``share`` of the values."""
    low, high = (torch.quantile(values, q) for q in (share, 1 - share))
    return float(values[(values >= low) & (values <= high)].mean())


def on_and_off(row: Mapping[str, float], query: str = "") -> dict[str, Any]:
    """The attribute that is meant (``query``, else the one that changes most) and the largest of the others."""
    on = query or max(row, key=lambda name: row[name])
    others = {name: value for name, value in row.items() if name != on}
    off = max(others, key=lambda name: others[name]) if others else ""
    return {"on": on, "on_change": row[on], "off": off, "off_change": others[off] if off else 0.0}
