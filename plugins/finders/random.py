from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from counterlens.core.h_space.finder import Finder

if TYPE_CHECKING:
    from counterlens.core.h_space.job import FindJob
    from counterlens.core.h_space.shifts import ShiftBank


class Random(Finder):
    """Directions of pure chance, as long in every step as a share of the activation: the baseline of all others."""

    name: ClassVar[str] = "random"
    components: int = Field(1, description="how many", ge=1)
    length: float = Field(0.1, description="|delta| over the mean |h| of a step, at strength 1", gt=0)

    def find(self, job: FindJob) -> ShiftBank:
        import torch

        from counterlens.core.h_space.recording import draw
        from counterlens.core.h_space.shifts import Shift

        total, count, shape = torch.zeros(len(job.grid) - 1), 0, torch.Size()
        for batch in job.recorded():
            h = batch.h[job.quest.site].cpu()
            total += h.flatten(2).norm(dim=2).sum(1)
            count, shape = count + h.shape[1], h[:, 0].shape
        norms = total / count
        found = []
        for k in range(self.components):
            noise = draw(job.quest.seed, [k], "random direction", shape)[0]
            unit = noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            found.append(Shift(f"random-{k}", unit * (self.length * norms).view(-1, 1, 1, 1), self.name))
        return job.bank(found, norms)
