from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.core.pieces import Guidance

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.network import Step
    from counterlens.core.problem import View


class Target(Guidance):
    """Pull toward the target class of the explained classifier."""

    name: ClassVar[str] = "target"
    needs: ClassVar[frozenset[str]] = frozenset({"labels", "gradient"})
    loss: Literal["cross-entropy", "margin", "confidence"] = Field(
        "cross-entropy",
        description="cross-entropy: -log p(t); margin: best other logit minus the target's; confidence: 1 - p(t)",
    )
    floor: float = Field(0.0, description="margin only: a lead of this many logits is enough", ge=0)

    def __call__(self, view: View, step: Step) -> Tensor:
        import torch.nn.functional as F

        logits, target = view.logits, view.scene.target
        if self.loss == "cross-entropy":
            return F.cross_entropy(logits, target, reduction="none")
        own = logits.gather(1, target[:, None])[:, 0]
        if self.loss == "confidence":
            return 1 - (own - logits.logsumexp(1)).exp()
        others = logits.scatter(1, target[:, None], float("-inf")).amax(1)
        return (others - own).clamp_min(-self.floor) if self.floor else others - own
