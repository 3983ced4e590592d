from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.core.errors import UsageError
from counterlens.core.h_space.finder import Finder

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.h_space.job import FindJob
    from counterlens.core.h_space.shifts import Shift, ShiftBank
    from counterlens.core.linalg.pca import PrincipalComponents
    from counterlens.plugins.finders.pca_samples import Reading


class Pca(Finder):
    """Principal components of the activations of many samples (Haas et al. 2024): what varies most, without labels.

    Strength 1 is one standard deviation in every step. Components are followed from timestep to timestep by the scores
    of the same samples. A run that is stopped goes on where it was when it is given again.
    """

    name: ClassVar[str] = "pca"
    components: int = Field(8, description="how many", ge=1)
    form: Literal["step", "global"] = Field(
        "step", description="a PCA of every timestep, followed by scores, or one of whole trajectories"
    )
    by: Literal["gram", "sketch"] = Field(
        "gram", description="exact, with activations on disk; or one pass in memory that does not grow with the samples"
    )
    extra: int = Field(8, description="components beyond those kept, among which they are followed", ge=0)
    width: int = Field(24, description="sketch: random vectors beyond the components", ge=1)
    folder: str = Field("", description="where activations are kept; if empty in the cache, until the file is written")
    half: bool = Field(False, description="keep them in half precision (half the disk)")

    def find(self, job: FindJob) -> ShiftBank:
        from counterlens.plugins.finders.pca_samples import Reading, SampleOptions

        count = len(job.pictures()) if job.quest.source == "images" else job.quest.count
        if self.components > count - 1:
            raise UsageError(
                f"{count} samples have at most {count - 1} components: give --count {self.components + 1} or more, "
                f"or --components {max(1, count - 1)}"
            )
        reading = Reading(self.settings(SampleOptions), job, count)
        found, norms, shape = self._sketched(reading) if self.by == "sketch" else self._exact(reading)
        if not found or not len(found[0].rows):
            raise UsageError("the samples do not differ at this site: there is no component")
        bank = self._bank(job, found, norms, shape)
        if not self.folder:
            reading.clear()
        return bank

    def _exact(self, reading: Reading) -> tuple[list[PrincipalComponents], Tensor, tuple[int, ...]]:
        from counterlens.core.linalg.pca import by_gram, shared

        steps = reading.steps()
        if self.form == "global":
            return shared(steps, self.components), steps.norms(), steps.shape()
        found = []
        for t in range(len(steps)):
            found.append(by_gram(steps[t], self.components + self.extra))
            reading.job.progress("components", t + 1, len(steps))
        return found, steps.norms(), steps.shape()

    def _sketched(self, reading: Reading) -> tuple[list[PrincipalComponents], Tensor, tuple[int, ...]]:
        sketches, probes, norms, shape = reading.sketches()
        k = self.components + (0 if self.form == "global" else self.extra)
        found = [sketch.components(k, part) for sketch, part in zip(sketches, probes, strict=True)]
        return (found if self.form == "step" else _cut(found[0], len(norms))), norms, shape

    def _bank(self, job: FindJob, found: list[PrincipalComponents], norms: Tensor, shape: tuple[int, ...]) -> ShiftBank:
        import torch

        from counterlens.core.linalg.pca import chained

        k, link = min(self.components, *(len(one.rows) for one in found)), None
        if k < self.components:
            job.notice(f"the samples have only {k} components: {k} are kept")
        if self.form == "step":
            chains = chained([one.scores for one in found], [one.explained for one in found], k)
            turned = zip(found, chains.order.tolist(), chains.sign, strict=True)
            found, link = [one.take(order, sign) for one, order, sign in turned], chains.link
        shifts = [_shift(j, found, link, (len(found), *shape)) for j in range(k)]
        if self.form == "step":
            scores = torch.stack([one.scores[:, :k] for one in found])
        else:
            scores = found[0].scores[None, :, :k]
        bank = job.bank(shifts, norms)
        return bank.with_(extra={"scores": scores.float().contiguous()})


def _shift(j: int, found: list[PrincipalComponents], link: Tensor | None, shape: tuple[int, ...]) -> Shift:
    """The j-th component of every timestep as one direction, strength 1 being a standard deviation."""
    import torch

    from counterlens.core.h_space.shifts import Shift

    delta = torch.stack([one.sigma[j] * one.rows[j] for one in found]).float().view(shape)
    by_step = {name: [round(float(getattr(one, name)[j]), 5) for one in found] for name in ("explained", "stability")}
    steps = by_step if link is not None else {name: values[:1] for name, values in by_step.items()}
    about = {f"{name}_mean": round(sum(values) / len(values), 4) for name, values in steps.items()}
    if link is not None:
        about["link_least"] = round(float(link[:, j].min()), 4)
        by_step["link"] = [round(float(value), 4) for value in link[:, j]]
    sigma = {"sigma": [round(float(one.sigma[j]), 5) for one in found]}
    return Shift(f"pc-{j}", delta, "pca", {**about, **steps, **by_step, **sigma})


def _cut(whole: PrincipalComponents, steps: int) -> list[PrincipalComponents]:
    """Components of a concatenation, timestep by timestep."""
    from dataclasses import replace

    rows = whole.rows.unflatten(1, (steps, -1))
    means = whole.mean.unflatten(0, (steps, -1))
    return [replace(whole, rows=rows[:, t], mean=means[t]) for t in range(steps)]
