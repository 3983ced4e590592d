"""Points and a mask prompt for segmentation, from the cross-attention of words (Augustin et al. 2024, section 2.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from counterlens.core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from counterlens.core.problem.scene import Scene


def sampled(plane: np.ndarray, count: int, least: float, seed: int) -> list[list[float]]:
    """Up to ``count`` distinct points [x, y] of a map [H,W], all above ``least``.

    The first is drawn in proportion to the map, each further one in proportion to the map times the squared distance
    to the nearest point so far (k-means++, Arthur & Vassilvitskii 2007), which is 0 at a point that is taken.
    """
    import numpy as np

    y, x = np.nonzero(plane > least)
    if not len(x):
        raise UsageError(f"the attention over the words is nowhere above least={least}: lower least=, or give points=")
    weight, distance = plane[y, x].astype(np.float64), np.ones(len(x))
    draw, points = np.random.default_rng(seed % 2**63), []
    for k in range(min(count, len(x))):
        p = weight * distance
        at = int(draw.choice(len(x), p=p / p.sum()))
        points.append([float(x[at]), float(y[at])])
        squares = (x - x[at]) ** 2.0 + (y - y[at]) ** 2.0
        distance = squares if k == 0 else np.minimum(distance, squares)
    return points


def low_resolution(plane: Tensor, side: int) -> Tensor:
    """A map [H,W] as the mask prompt [1,side,side]: logits, the longer side fitted, the rest (as padded) outside."""
    import torch.nn.functional as F

    height, width = plane.shape
    scale = side / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = F.interpolate(plane[None, None].float(), size, mode="bilinear", align_corners=False, antialias=True)
    return F.pad(small, (0, side - size[1], 0, side - size[0]))[0].clamp(0.01, 0.99).logit()


def looked(scene: Scene, words: str, squash: str, count: int, least: float) -> tuple[Tensor, list[Any]]:
    """The squashed map [B,1,H,W] of the words, on the CPU, and the points of every row."""
    from counterlens.plugins.maskers.cross_attention import CrossAttention

    c = CrossAttention(words=words, squash=squash).mask(scene).float().cpu()
    planes = zip(c[:, 0].numpy(), scene.seeds, strict=True)
    return c, [sampled(plane, count, least, seed) for plane, seed in planes]
