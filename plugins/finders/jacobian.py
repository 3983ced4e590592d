from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PrivateAttr

from counterlens.core.errors import UsageError
from counterlens.core.h_space.finder import Finder
from counterlens.core.problem.masker import Sources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.h_space.job import FindJob
    from counterlens.core.h_space.shifts import Shift, ShiftBank
    from counterlens.plugins.finders.jacobian_walk import StepVectors


class Jacobian(Finder):
    """What one picture is most sensitive to: leading right singular vectors of d(network's answer)/d(activation) along
    its own trajectory (Haas et al. 2024), if wished only inside a mask or not outside of it (Chen et al. 2024).

    Only the part of the network behind the site is differentiated, by block Krylov with a residual as certificate.
    Strength 1 is as long as the activation itself.
    """

    name: ClassVar[str] = "jacobian"
    per_image: ClassVar[bool] = True
    components: int = Field(3, description="how many", ge=1)
    mask: str = Field("", description="where the picture is to change: a grey picture's file, or maskers with options")
    outside: Literal["free", "null-space", "ratio"] = Field(
        "free",
        description="what the directions may do outside of the mask: anything; nothing that the strongest ``avoid`` "
        "directions of the outside do; or the least against what they do inside",
    )
    avoid: int = Field(16, description="outside=null-space: how many directions of the outside are projected out", ge=1)
    floor: float = Field(
        0.01, description="outside=ratio: of the length's weight beside the outside, of the strongest inside", gt=0
    )
    at: float | None = Field(
        None, description="take the vectors of the step at this share of the trajectory for all steps", ge=0, lt=1
    )
    block: int = Field(0, description="vectors that go through the network together; 0: one more than asked for", ge=0)
    tol: float = Field(1e-3, description="largest residual |A'u - s v| over the first singular value", gt=0)
    rounds: int = Field(100, description="largest number of rounds of products a step", ge=2)
    warm: bool = Field(True, description="begin each step with the vectors of the one before")
    _sources: Sources | None = PrivateAttr(None)

    def model_post_init(self, context: Any) -> None:
        if context and self.mask:
            given = Path(self.mask).expanduser()
            text = f"file path='{given}'" if given.suffix or given.is_file() else self.mask
            self._sources = Sources.read(self.mask if " " in self.mask else text, context["make"])

    def wanted(self) -> frozenset[str]:
        return self.needs | (self._sources.wanted() if self._sources else frozenset())

    def check(self, asked: Sequence[SourceImage]) -> None:
        if self.outside != "free" and not self.mask:
            raise UsageError(f"outside={self.outside} needs a --mask: without one there is no outside")
        if self._sources:
            self._sources.check(asked)

    def find(self, job: FindJob) -> ShiftBank:
        import torch

        from counterlens.plugins.finders.jacobian_walk import SpectralOptions, along

        problem = job.problem
        if problem is None or len(problem.scene) != 1:
            raise UsageError("jacobian works for one image: give one --image")
        if job.quest.dtype != "float32":
            job.notice(
                f"--dtype {job.quest.dtype}: products of the Jacobian have about three digits and the residual may "
                "never get small; use float32"
            )
        change = self._sources.map(problem) if self._sources else None
        if change is not None and not bool((change > 0).any()):
            raise UsageError(f"the mask {self.mask!r} is empty on this picture: nothing would be measured")
        found = along(self.settings(SpectralOptions), job, problem, change)
        if late := [k for k, one in enumerate(found) if not one.converged]:
            worst = max(float(found[k].residual.max()) for k in late)
            job.notice(f"{len(late)} of {len(found)} steps stopped at a residual of up to {worst:.1e}: raise --rounds")
        norms = torch.tensor([one.norm for one in found])
        share = None if change is None else round(float(change.mean()), 5)
        total = {name: sum(getattr(one, name) for one in found) for name in ("products", "rounds")}
        shifts = [self._shift(j, found) for j in range(self.components)]
        return job.bank(shifts, norms, mask_share=share, **total)

    def _shift(self, j: int, found: Sequence[StepVectors]) -> Shift:
        """The j-th vectors as one direction, as long as the activation in every step."""
        import torch

        from counterlens.core.h_space.shifts import Shift

        take = None if self.at is None else min(len(found) - 1, int(self.at * len(found)))
        delta = torch.stack([one.norm * (one if take is None else found[take]).rows[j] for one in found]).float()
        about = {
            "value_mean": round(sum(float(one.values[j]) for one in found) / len(found), 5),
            "residual_worst": float(f"{max(float(one.residual[j]) for one in found):.2e}"),
            "link_least": round(min(float(one.link[j]) for one in found), 4),
            **({} if take is None else {"step": take}),
            "values": [round(float(one.values[j]), 6) for one in found],
            "residual": [float(f"{float(one.residual[j]):.2e}") for one in found],
            "link": [round(float(one.link[j]), 4) for one in found],
        }
        return Shift(f"jacobian-{j}", delta, "jacobian", about)
