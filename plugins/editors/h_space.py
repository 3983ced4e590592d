from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from counterlens.core.h_space.window_options import WindowOptions
from counterlens.core.problem.method_pieces import Editor

if TYPE_CHECKING:
    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.h_space.shifts import ShiftBank
    from counterlens.core.problem.scene import Scene


class HSpaceEditor(WindowOptions, Editor):
    """Shift the activations of the U-Net's bottleneck, or of another site, along directions of a file (Kwon et al.
    2023; Haas et al. 2024).

    ``h <- h + strength·scale·delta`` at the directions' own site; several directions are added up.
    """

    name: ClassVar[str] = "h-space"
    strength_unit: ClassVar[str] = "lengths of the direction"
    needs: ClassVar[frozenset[str]] = frozenset({"mid-block"})
    pick: tuple[str, ...] = Field((), description="which of the file's directions, name or name*factor; all if empty")
    scale: float = Field(1.0, description="of the directions, at strength 1; negative goes the other way")
    form: Literal["symmetric", "asymmetric"] = Field(
        "symmetric",
        description="the shifted answer is all, or only the clean image of each step (Asyrp; twice the evaluations)",
    )
    branch: Literal["all", "conditional"] = Field("all", description="which branches of guidance are shifted")
    cap: float | None = Field(None, description="the shift is at most so many times as long as the activation", gt=0)

    def check(self, asked: Sequence[SourceImage]) -> None:
        from counterlens.core.errors import UsageError
        from counterlens.core.h_space.shifts import load_shifts

        if not self.directions:
            raise UsageError(
                "editor 'h-space' needs directions: --directions FILE, made by counterlens directions find"
            )
        self._picked(load_shifts(self.directions))

    def bind(self, scene: Scene) -> Any:
        from counterlens.core.h_space.injection import AddShift, weights_of

        bank = self._bank(scene)
        delta = sum(factor * bank.get(name).delta for name, factor in self._picked(bank))
        return AddShift(
            delta=delta[:, None].to(scene.x0),  # type: ignore[index, union-attr]
            strength=self.scale * scene.strength,
            weights=weights_of(len(scene.grid) - 1, self.window, self.schedule),
            site=bank.space.site,
            cap=self.cap,
            symmetric=self.form == "symmetric",
            branch="" if self.branch == "all" else list(scene.cond)[-1],
            lock=scene.lock,
        )

    def _bank(self, scene: Scene) -> ShiftBank:
        """The file's directions, fit for this pipeline and trajectory; read once a run."""
        from counterlens.core.h_space.shifts import load_shifts

        resources, key = scene.resources, ("bank", self.directions, self.resample, len(scene.grid))
        bank = partial(load_shifts, self.directions)
        return resources.memo.once(key, lambda: bank().check(resources.pipeline, scene.grid, resample=self.resample))

    def _picked(self, bank: ShiftBank) -> list[tuple[str, float]]:
        """(name, factor) of the directions to be added up; UsageError for one that is not there."""
        from counterlens.core.errors import UsageError

        if not self.pick:
            return [(name, 1.0) for name in bank.names]
        found = []
        for text in self.pick:
            name, _, factor = text.partition("*")
            try:
                found.append((bank.get(name.strip()).name, float(factor or 1)))
            except ValueError:
                raise UsageError(f"pick {text!r}: write NAME or NAME*FACTOR") from None
        return found
