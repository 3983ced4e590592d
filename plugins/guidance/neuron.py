from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.core.problem.method_pieces import Guidance

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.diffusion.step import Step
    from counterlens.core.problem.view import View


class Neuron(Guidance):
    """More (or less) of one unit of the explained classifier: ``-/+ scale·a_n - confidence·log p(target)``."""

    name: ClassVar[str] = "neuron"
    needs: ClassVar[frozenset[str]] = frozenset({"labels", "gradient"})
    any_source: ClassVar[bool] = True
    unit: int = Field(description="number of the unit (channel) in its layer", ge=0)
    layer: str = Field(
        "penultimate",
        description="layer by name; penultimate: what enters the last linear layer. See a wrong name's error",
    )
    sign: Literal["plus", "minus"] = Field("plus", description="plus: more of it; minus: less of it")
    scale: float = Field(1.0, description="factor of the activation", gt=0)
    confidence: float = Field(
        0.0, description="weight of -log p(target) beside it; DiG-IN uses 0.5 with scale=10", ge=0
    )

    def meet(self, classifier: Classifier, others: Mapping[str, Classifier]) -> None:
        from counterlens.core.classifiers.units import check_unit

        check_unit(classifier, self.layer, self.unit)

    def __call__(self, view: View, step: Step) -> Tensor:
        import torch.nn.functional as F

        a = view.activation(self.layer)[:, self.unit]
        pull = -self.scale * a if self.sign == "plus" else self.scale * a
        if not self.confidence:
            return pull
        return pull + self.confidence * F.cross_entropy(view.logits, view.scene.target, reduction="none")
