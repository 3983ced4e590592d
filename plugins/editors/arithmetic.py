from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator

from counterlens.core.conditioning.directions import Direction
from counterlens.core.problem.method_pieces import Editor

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.diffusion.step import Condition, Step
    from counterlens.core.problem.scene import Scene


class ByExamples(Editor):
    """What editors that learn a difference of classes from labelled images share."""

    needs: ClassVar[frozenset[str]] = frozenset({"image-embedding", "examples", "labels"})
    mixes: ClassVar[bool] = True
    per_class: int = Field(300, description="images of each class that the difference is learned from", ge=2)
    embeddings: str = Field("", description="file of counterlens train embeddings, instead of labelled images")

    def wanted(self) -> frozenset[str]:
        return self.needs - {"examples"} if self.embeddings else self.needs


class Arithmetic(ByExamples):
    """Move the image embedding along the difference of two classes (DIFFusion, Chiquier et al. 2025).

    ``e' = |e|·(e/|e| + s·(mean_target - mean_source))`` with means of unit embeddings; then e' gets the length of e
    again, so that strength does not also change how firmly the network is conditioned.
    """

    name: ClassVar[str] = "arithmetic"
    strength_unit: ClassVar[str] = "distances between the class means"
    direction: SerializeAsAny[Direction] | str = Field(
        "mean-difference", description="how the classes differ", validate_default=True
    )
    scale: float = Field(1.0, description="s at strength 1")
    restore_norm: bool = Field(True, description="give e' the length of e; false is the paper's own rule")
    against: Literal["null", "source"] = Field(
        "null",
        description="what guidance pushes away from: nothing in particular, or the image's own embedding, so that it "
        "enlarges the change and not the image's other traits (invert under=source then)",
    )

    @field_validator("direction", mode="before")
    @classmethod
    def _made(cls, value: Any, info: ValidationInfo) -> Any:
        """A direction may be written as pieces are: ``direction='neighbours k=5'``."""
        make = (info.context or {}).get("make")
        return make("direction", value) if make and isinstance(value, str) else value

    def bind(self, scene: Scene) -> Any:
        from torch.nn.functional import normalize

        from counterlens.core.conditioning.class_pairs import step_of

        branch, e = list(scene.cond.items())[-1]
        length, unit = e.norm(dim=1, keepdim=True), normalize(e, dim=1)
        steps = step_of(scene, self.direction, unit, self.per_class, self.embeddings)
        moved = unit + self.scale * scene.strength.to(e)[:, None] * steps
        target = length * (normalize(moved, dim=1) if self.restore_norm else moved)
        away = {"null": e} if self.against == "source" and "null" in scene.cond else {}
        return ReplacedConditions({**away, branch: target})


@dataclass(frozen=True, eq=False)
class ReplacedConditions:
    """Conditions [B,…] that stand in for those of the branches."""

    instead: Mapping[str, Tensor]

    def on_condition(self, cond: Condition, step: Step) -> Condition:
        return {**cond, **self.instead}
