from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.core.problem.method_pieces import Guidance

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.diffusion.step import Step
    from counterlens.core.problem.view import View


class Target(Guidance):
    """Pull toward the target class of the explained classifier."""

    name: ClassVar[str] = "target"
    strength_unit: ClassVar[str] = "gradients of the loss, times the noise level squared"
    needs: ClassVar[frozenset[str]] = frozenset({"labels", "gradient"})
    loss: Literal["cross-entropy", "margin", "confidence"] = Field(
        "cross-entropy",
        description="cross-entropy: -log p(t); margin: best other logit minus the target's; confidence: 1 - p(t)",
    )
    floor: float = Field(0.0, description="margin only: a lead of this many logits is enough", ge=0)
    crops: int = Field(
        0, description="random crops that the classifier looks at instead of the whole image; 0: none", ge=0
    )
    power: float = Field(0.3, description="crops: exponent of their size; below 1 large ones are more frequent", gt=0)
    noise: float = Field(0.0, description="standard deviation of noise on what the classifier sees, in [0,1]", ge=0)

    @property
    def draws(self) -> bool:
        return bool(self.crops or self.noise)

    def __call__(self, view: View, step: Step) -> Tensor:
        if view.draw is None or not self.draws:
            return self._loss(view.logits, view.scene.target)
        count, classifier = max(1, self.crops), view.scene.resources.classifier
        side = min(classifier.contract.size or view.shown.shape[-2:]) if self.crops else min(view.shown.shape[-2:])
        logits = classifier.logits(view.cropped(count, side, self.power, self.noise))
        target = view.scene.target.repeat_interleave(count)
        return self._loss(logits, target).unflatten(0, (-1, count)).mean(1)

    def _loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """[N] of logits [N,K] and targets [N]."""
        import torch.nn.functional as F

        if self.loss == "cross-entropy":
            return F.cross_entropy(logits, target, reduction="none")
        own = logits.gather(1, target[:, None])[:, 0]
        if self.loss == "confidence":
            return 1 - (own - logits.logsumexp(1)).exp()
        others = logits.scatter(1, target[:, None], float("-inf")).amax(1)
        return (others - own).clamp_min(-self.floor) if self.floor else others - own
