"""Does the flip hold when the picture is handled a little, as pictures are?"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from counterlens.core.metrics.metric import NAN, CounterfactualPair, ImageMetric, Value

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.metrics.context import Context

NOISES = (0.01, 0.02, 0.03, 0.04, 0.05)  # standard deviations, of [0,1]
QUALITIES = (95, 85, 75, 60, 50)  # of JPEG
SHIFTS = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1))  # in 32nds of a side


class FlipRobustness(ImageMetric):
    """Share of 16 small shifts, noises and JPEG round trips of a flipped picture under which the explained classifier
    still decides it as the target. An adversarial picture loses its flip under them.
    """

    name: ClassVar[str] = "flip_robustness"
    needs: ClassVar[frozenset[str]] = frozenset({"classifier"})
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 1)
    cost: ClassVar[str] = "classifier"
    population: ClassVar[str] = "flipped"
    source: ClassVar[str] = "after Hvilshøj et al. 2021: what an adversarial change does not survive"

    def measure(self, pairs: Sequence[CounterfactualPair], context: Context) -> Mapping[str, Sequence[Value]]:
        return {self.name: [self.value(p, context) if p.within(self.population) else None for p in pairs]}

    def value(self, pair: CounterfactualPair, context: Context) -> float:
        target = str(pair.record["target"])
        if pair.counterfactual is None or target not in context.classifier.labels:
            return NAN
        said = context.classifier.evaluate(handled(pair.counterfactual.float()).to(context.device)).argmax(1)
        return float((said == context.classifier.labels.index(target)).float().mean())


def handled(picture: Tensor) -> Tensor:
    """[16,3,H,W]: a picture [3,H,W] in [0,1] shifted, with noise (numbered draws), and through JPEG."""
    import numpy as np
    import torch
    import torch.nn.functional as F
    from PIL import Image

    height, width = picture.shape[-2:]
    by = max(1, round(min(height, width) / 32))
    padded = F.pad(picture[None], (by,) * 4, mode="replicate")[0]
    moved = [padded[:, by + by * y : by + by * y + height, by + by * x : by + by * x + width] for y, x in SHIFTS]
    generator = torch.Generator().manual_seed(0)
    noisy = [(picture + sd * torch.randn(picture.shape, generator=generator)).clamp(0, 1) for sd in NOISES]
    pixels, saved = (picture.permute(1, 2, 0) * 255).round().byte().numpy(), []
    for quality in QUALITIES:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        saved.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 255)
    return torch.stack([*moved, *noisy, *saved])
