from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.problem.method_pieces import Regularizer

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.classifiers.features import Features
    from counterlens.core.diffusion.step import Step
    from counterlens.core.problem.view import View


class Identity(Regularizer):
    """1 - cos of a network's features of the picture and of the source: who is shown stays the same (identity loss)."""

    name: ClassVar[str] = "identity"
    features: str = Field(
        description="a network of faces or of anything that should stay: vggface2:PATH, or a classifier's URI"
    )

    def __call__(self, view: View, step: Step) -> Tensor:
        import torch

        from counterlens.core.images.pixels import clamped, unit

        extract = self._opened(view)
        with torch.no_grad():
            source = extract(unit(view.scene.image.to(view.x0)))
        image = view.image
        shown = unit(clamped(image))
        return 1 - torch.cosine_similarity(extract(shown).float(), source.float(), dim=1)

    def _opened(self, view: View) -> Callable[[Tensor], Any]:
        """The extractor, opened once a run."""
        from counterlens.core.metrics.context import Context, open_features
        from counterlens.core.plugin.registry import load_registry

        def opened() -> Features:
            return open_features(self.features, Context(load_registry(), device=str(view.x0.device)))

        return view.scene.resources.memo.once(("identity", self.features), opened).extract
