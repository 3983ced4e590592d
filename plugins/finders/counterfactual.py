from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.core.errors import UsageError
from counterlens.core.h_space.finder import Finder

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.h_space.gradients import TargetGradient
    from counterlens.core.h_space.injection import AddShift
    from counterlens.core.h_space.job import FindJob
    from counterlens.core.h_space.shifts import ShiftBank
    from counterlens.core.problem.problem import Problem


class CounterfactualFinder(Finder):
    """The gradient of the target's log-odds in h-space: one direction for each image that is named (``--image``), or
    one for all samples (``--target``), the mean of their unit gradients.

    Strength 1 of an image's own is what flips it to first order, at most ``length``; of a global one ``length``.
    """

    name: ClassVar[str] = "counterfactual"
    needs: ClassVar[frozenset[str]] = frozenset({"mid-block", "labels", "gradient"})
    through: Literal["trajectory", "step"] = Field(
        "trajectory",
        description="through all steps, checkpointed; or of each step's own clean image, a third of the cost",
    )
    protect: tuple[str, ...] = Field((), description="classes whose logits are kept: their gradients are projected out")
    ridge: float = Field(1e-3, description="of that projection", ge=0)
    onto: str = Field("", description="file of directions: the gradient within their span (semantic gradient)")
    tau: float = Field(0.9, description="target probability that counts as flipped", gt=0, lt=1)
    length: float = Field(0.3, description="|delta| over |h|, the longest", gt=0)

    def find(self, job: FindJob) -> ShiftBank:
        return self._of_images(job) if job.problem is not None else self._of_samples(job)

    def _of_images(self, job: FindJob) -> ShiftBank:
        import torch

        from counterlens.core.classifiers.log_odds import log_odds_at
        from counterlens.core.h_space import gradients
        from counterlens.core.h_space.shifts import Shift

        found, norms = [], []
        assert job.problem is not None
        for row, item in enumerate(job.problem.scene.items):
            one = job.problem.take([row])
            inversion = one.invert(0.0)
            slope = self._slope(one, inversion, job)
            v = gradients.steepest(self._cleaned(slope, job), slope.norms)
            rise = float(gradients.predicted(slope.gradient, v))
            gap = log_odds_at(self.tau) - float(slope.margin)
            gamma = min(self.length, max(0.0, gap / max(rise, 1e-12)))
            about = {
                "target": item.target,
                "log_odds": round(float(slope.margin), 4),
                "rise_per_length": round(rise, 4),
                "flips_at": round(gap / max(rise, 1e-12), 4),
            }
            found.append(Shift(f"{item.name}-{item.target}".replace("/", "_"), gamma * v[:, 0].cpu(), self.name, about))
            norms.append(slope.norms[:, 0].cpu())
            job.progress("gradients", row + 1, len(job.problem.scene))
        return job.bank(found, torch.stack(norms).mean(0))

    def _of_samples(self, job: FindJob) -> ShiftBank:
        from counterlens.core.h_space.gradients import relative
        from counterlens.core.h_space.shifts import Shift

        if not job.quest.target:
            raise UsageError("toward which class? give --target CLASS, or name images with --image")
        if job.quest.eta:
            raise UsageError("gradients go through deterministic samples: leave --eta at 0")
        target = job.explained.label_index(job.quest.target)
        total, norms, n = None, None, 0
        for problem, inversion in self._problems(job, target):
            slope = self._slope(problem, inversion, job)
            g = self._cleaned(slope, job)
            unit = g / g.flatten(2).norm(dim=(0, 2)).clamp_min(1e-20).view(1, -1, 1, 1, 1)
            total = unit.sum(1).cpu() + (0 if total is None else total)
            norms = slope.norms.sum(1).cpu() + (0 if norms is None else norms)
            n += g.shape[1]
        if total is None or norms is None:
            raise UsageError(f"every sample is already decided as {job.quest.target!r}: give another --target")
        mean, norms = total / n, norms / n
        v = mean * norms.square().view(-1, 1, 1, 1)
        v = v / relative(v[:, None], norms[:, None]).clamp_min(1e-20)
        about = {"target": job.quest.target, "agreement": round(float(mean.norm()), 4), "samples": n}
        return job.bank([Shift(f"toward-{job.quest.target}", self.length * v, self.name, about)], norms)

    def _problems(self, job: FindJob, target: int) -> Iterator[tuple[Problem, Inversion]]:
        """Samples that are not decided as the target, ready to be walked again."""
        from dataclasses import replace

        import torch

        from counterlens.core.diffusion.inversion import Inversion
        from counterlens.core.h_space.recording import problem_of

        for batch in job.recorded():
            others = torch.nonzero(job.logits(batch.picture).argmax(1) != target)[:, 0].tolist()
            if not others:
                continue
            scene = replace(batch.scene, target=torch.full_like(batch.scene.target, target)).take(others)
            yield problem_of(scene, job.inverter, job.combiner), Inversion(batch.path[0][others], scene.grid)

    def _slope(self, problem: Problem, inversion: Inversion, job: FindJob) -> TargetGradient:
        from counterlens.core.h_space import gradients

        protect = [job.explained.label_index(name) for name in self.protect]
        inject = self._nothing(problem, inversion, job)
        return gradients.target_gradient(problem, inversion, inject, protect, self.through)

    def _nothing(self, problem: Problem, inversion: Inversion, job: FindJob) -> AddShift:
        import torch

        from counterlens.core.h_space.gradients import zeros
        from counterlens.core.h_space.injection import AddShift

        delta = zeros(problem, job.quest.site, inversion)
        ones = torch.ones(len(problem.scene), device=delta.device)
        return AddShift(delta, ones, torch.ones(len(delta)), job.quest.site)

    def _cleaned(self, slope: TargetGradient, job: FindJob) -> Tensor:
        """The gradient within the span of a bank, without what protected logits depend on."""
        import torch

        from counterlens.core.h_space import gradients
        from counterlens.core.h_space.shifts import load_shifts

        g = slope.gradient
        if slope.protected is not None:
            g = gradients.disentangled(g, slope.protected, self.ridge)
        if self.onto:
            bank = load_shifts(self.onto).check(job.pipeline, job.grid, job.quest.site)
            span = torch.stack([shift.delta.flatten() for shift in bank.shifts]).to(g)
            rows = [gradients.projected_on(g[:, k].flatten(), span).view_as(g[:, k]) for k in range(g.shape[1])]
            g = torch.stack(rows, 1)
        return g
