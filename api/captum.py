"""A counterfactual as an attribution: the shape of Captum's methods, for code that calls those."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.results import Explanation


class Counterfactual:
    """What would have to change, pixel by pixel: ``Counterfactual(model, pipeline).attribute(inputs, target)``.

    ``model``: an ``nn.Module`` of images in [0,1], or as prepared by ``preprocessing``; ``pipeline`` and ``options``:
    see ``counterlens.explain``.
    """

    def __init__(
        self,
        model: Any,
        pipeline: str,
        labels: Sequence[str] | None = None,
        preprocessing: Any = "none",
        **options: Any,
    ) -> None:
        from counterlens.live import classifier

        self.classifier = classifier(model, labels, preprocessing)
        self.pipeline, self.options = pipeline, options
        self.explanations: list[Explanation] = []

    def attribute(self, inputs: Tensor, target: int | Sequence[int] | Tensor | None = None) -> Tensor:
        """The signed difference [B,3,H,W] in [-1,1] from each image to its counterfactual of class ``target``.

        ``inputs`` [B,3,H,W] in [0,1]; ``target``: a class index, one an image, or None for the runner-up of each. Zeros
        where an image has no counterfactual (``explanations`` says why).
        """
        import torch

        from counterlens.calls import explain

        many = target is not None and not isinstance(target, int) and getattr(target, "ndim", 1) > 0
        targets = list(target) if many else [target] * len(inputs)  # type: ignore[arg-type]
        out, self.explanations = [], []
        for image, wanted in zip(inputs, targets, strict=True):
            label = None if wanted is None else int(wanted)  # type: ignore[arg-type]
            found = explain(
                image, self.classifier, label, pipeline=self.pipeline, **{"progress": False, **self.options}
            )
            self.explanations.append(found)  # type: ignore[arg-type]
            out.append(self._as_tensor(found, image))
        return torch.stack(out)

    @staticmethod
    def _as_tensor(found: Any, image: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        if found.image is None:
            return torch.zeros_like(image)
        change = torch.from_numpy(found.difference).permute(2, 0, 1)[None]
        if change.shape[-2:] != image.shape[-2:]:
            change = F.interpolate(change, image.shape[-2:], mode="bilinear", antialias=True, align_corners=False)
        return change[0].to(image)
