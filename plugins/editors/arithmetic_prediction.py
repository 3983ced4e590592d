from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.plugins.editors.arithmetic import ByExamples

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.diffusion.levels import Estimate
    from counterlens.core.diffusion.step import Step
    from counterlens.core.problem.scene import Scene


class ArithmeticPrediction(ByExamples):
    """Arithmetic on predictions instead of embeddings: add ``s·(eps(mean_target) - eps(mean_source))`` at every step.

    Both class means have the image's own length. The network is asked two times more a step.
    """

    name: ClassVar[str] = "arithmetic-prediction"
    scale: float = Field(1.0, description="s at strength 1, times the guidance scale of the combiner")

    def bind(self, scene: Scene) -> Any:
        import torch
        from torch.nn.functional import normalize

        from counterlens.core.conditioning.class_pairs import pair_of

        branch, e = list(scene.cond.items())[-1]
        pairs = [pair_of(scene, row, self.per_class, self.embeddings) for row in range(len(scene))]
        means = [torch.stack([getattr(pair, which).mean(0) for pair in pairs]) for which in ("source", "target")]
        source, target = (normalize(mean.to(e), dim=1) * e.norm(dim=1, keepdim=True) for mean in means)
        return _Pushed(scene, branch, source, target, self.scale * scene.strength.view(-1, 1, 1, 1))


class _Pushed:
    """``source`` and ``target`` embeddings [B,D] whose predictions are subtracted, ``share`` [B,1,1,1]."""

    def __init__(self, scene: Scene, branch: str, source: Tensor, target: Tensor, share: Tensor) -> None:
        self.scene, self.branch, self.source, self.target, self.share = scene, branch, source, target, share

    def on_estimate(self, est: Estimate, step: Step) -> Estimate:
        from counterlens.core.diffusion.step import only

        away, near = (
            self.scene.net.estimate(
                replace(step, cond={self.branch: e}, extra={self.branch: step.extra.get(self.branch, {})}), (), only
            )
            for e in (self.source, self.target)
        )
        return replace(
            est, x0=est.x0 + self.share * (near.x0 - away.x0), eps=est.eps + self.share * (near.eps - away.eps)
        )
