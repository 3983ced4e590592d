"""What directions do to images: every (image, direction, window of steps, strength) as a picture with its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from counterlens.core.errors import UsageError
from counterlens.core.h_space.gradients import projected_out
from counterlens.core.h_space.injection import AddShift, weights_of
from counterlens.core.h_space.shifts import Shift, ShiftBank
from counterlens.core.images.pixels import as_saved, unit
from counterlens.core.problem.problem import Problem
from counterlens.core.utils.batched import batched

if TYPE_CHECKING:
    from counterlens.core.h_space.job import FindJob


@dataclass(frozen=True, eq=False)
class Cell:
    """One picture [3,H,W] in [0,1] of an image under a direction; ``p`` [K] of the classifier, ``l1`` the mean absolute
    change."""

    image: str
    direction: str
    window: tuple[float, float]
    strength: float
    picture: Tensor
    p: Tensor
    l1: float


def cells(
    job: FindJob,
    bank: ShiftBank,
    strengths: Sequence[float],
    windows: Sequence[tuple[float, float]] = ((0.0, 1.0),),
    symmetric: bool = True,
    cap: float | None = None,
) -> Iterator[Cell]:
    """Every direction of ``bank`` on the images of ``job``, a row of strengths for each window, as many as fit in a
    network call together."""
    problem = job.problem
    assert problem is not None
    problem.invert(0.0)
    todo = [
        (row, shift, window, s)
        for row in range(len(problem.scene))
        for shift in bank.shifts
        for window in windows
        for s in strengths
    ]
    for window in dict.fromkeys(windows):
        part = [one for one in todo if one[2] == window]
        done = 0
        for some in batched(part, problem.batch):
            deltas = torch.stack([shift.delta for _, shift, _, _ in some], 1)
            given = torch.tensor([s for *_, s in some])
            yield from _walked(problem, [row for row, *_ in some], some, deltas, given, bank.space.site, symmetric, cap)
            done += len(some)
            job.progress("pictures", done, len(part))


def _walked(
    problem: Problem,
    rows: list[int],
    some: Sequence[tuple[int, Shift, tuple[float, float], float]],
    deltas: Tensor,
    strengths: Tensor,
    site: str,
    symmetric: bool,
    cap: float | None,
) -> Iterator[Cell]:
    part = problem.take(rows)
    weights = weights_of(len(deltas), some[0][2])
    device = part.scene.x0.device
    inject = AddShift(
        delta=deltas.to(device), strength=strengths.to(device), weights=weights, site=site, cap=cap, symmetric=symmetric
    )
    with torch.no_grad():
        pictures = as_saved(part.scene.picture(part.walk(part.invert(0.0), [inject])))
        p = part.scene.resources.classifier.probabilities(pictures).cpu()
    source = unit(part.scene.image)
    l1 = (pictures - source).abs().flatten(1).mean(1).tolist()
    for k, (_, shift, window, s) in enumerate(some):
        yield Cell(
            image=part.scene.items[k].name,
            direction=shift.name,
            window=window,
            strength=s,
            picture=pictures[k].cpu(),
            p=p[k],
            l1=l1[k],
        )


def named_shifts(job: FindJob, bank: ShiftBank, strength: float) -> ShiftBank:
    """The bank with names that say what changes between -strength and +strength, a mean over the job's images: the
    class whose log-probability moves most (``less-`` where it falls), of two classes the one that rises."""
    labels, said = job.explained.labels, []
    found = list(cells(job, bank, (-strength, strength)))
    shifts = []
    for shift in bank.shifts:
        own = [c for c in found if c.direction == shift.name]
        rise = (
            torch.stack([c.p.clamp_min(1e-6).log() * (1 if c.strength > 0 else -1) for c in own]).sum(0) * 2 / len(own)
        )
        best = int(rise.abs().argmax()) if len(labels) > 2 else int(rise.argmax())
        said.append(labels[best] if rise[best] > 0 else f"less-{labels[best]}")
        name = said[-1] if said.count(said[-1]) == 1 else f"{said[-1]}-{said.count(said[-1])}"
        rises = {label: round(float(v), 4) for label, v in zip(labels, rise, strict=True)}
        about = {"was": shift.name, "rise": rises[labels[best]], "l1": round(sum(c.l1 for c in own) / len(own), 5)}
        shifts.append(shift.with_(name=name, about={**shift.about, **about, "rises": rises}))
    return bank.with_(shifts=tuple(shifts))


def combined_shift(
    bank: ShiftBank, name: str, terms: Sequence[tuple[str, float]], without: Sequence[str] = ()
) -> Shift:
    """The sum of factor·direction, without what lies along other directions (all together); UsageError if nothing is
    left."""
    if not terms:
        raise UsageError("which directions? give --sum NAME*FACTOR,NAME*FACTOR")
    delta = torch.stack([factor * bank.get(term).delta for term, factor in terms]).sum(0)
    before = float(delta.norm())
    if without:
        conditions = torch.stack([bank.get(other).delta.flatten() for other in without])
        delta = projected_out(delta.flatten(), conditions).view_as(delta)
    if float(delta.norm()) <= 1e-5 * max(before, 1e-12):
        raise UsageError(f"nothing is left of {name!r}: it lies along what is projected out")
    about = {"sum": [f"{term}*{factor:g}" for term, factor in terms], "without": list(without)}
    return Shift(name, delta, "combined", {k: v for k, v in about.items() if v})


def terms_of(text: str) -> list[tuple[str, float]]:
    """``a*0.5,b*-1,c`` as (name, factor) pairs; UsageError where a factor is no number."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, star, factor = part.rpartition("*")
        try:
            found.append((name.strip(), float(factor)) if star else (part, 1.0))
        except ValueError:
            raise UsageError(f"{part!r}: write NAME or NAME*FACTOR") from None
    return found
