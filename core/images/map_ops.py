"""Change maps: what combines and refines them. Maps are [B,1,H,W] in [0,1], 1 = may change; all of it stays in [0,1].

Union is the larger value, intersection the smaller; ``except`` protects: ``c·(1 - p)``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


WORDS = ("or", "and", "except")


def union(c: Tensor, other: Tensor) -> Tensor:
    return c.maximum(other)


def intersection(c: Tensor, other: Tensor) -> Tensor:
    return c.minimum(other)


def protect(c: Tensor, kept: Tensor) -> Tensor:
    return c * (1 - kept)


JOIN = dict(zip(WORDS, (union, intersection, protect), strict=True))


def refined(
    c: Tensor,
    invert: bool = False,
    power: float = 1.0,
    area: float | None = None,
    grow: float = 0.0,
    feather: float = 0.0,
    cap: float = 1.0,
    shrink: float = 0.0,
    blur: float = 0.0,
) -> Tensor:
    """A map through every refinement: inverted, power, area, shrunk, grown, feathered, blurred, capped."""
    c = 1 - c if invert else c
    c = c if power == 1 else c**power
    c = c if area is None else budget(c, area)
    c = 1 - grown(1 - c, shrink) if shrink else c  # the erosion by a disc
    c = grown(c, grow) if grow else c
    c = feathered(c, feather) if feather else c
    c = smoothed(c, blur).clamp(0, 1) if blur else c
    return c * cap


def budget(c: Tensor, share: float) -> Tensor:
    """The largest values, at most ``share`` of each picture; the rest is 0. Ties go to the first in reading order."""
    import torch

    flat = c.flatten(1)
    count = math.floor(share * flat.shape[1] + 1e-6)
    order = flat.argsort(dim=1, descending=True, stable=True)[:, :count]
    kept = torch.zeros_like(flat, dtype=torch.bool).scatter_(1, order, True)
    return torch.where(kept, flat, torch.zeros_like(flat)).view_as(c)


def grown(c: Tensor, pixels: float) -> Tensor:
    """Every value reaches ``pixels`` further, in a disc."""
    import numpy as np
    from scipy.ndimage import grey_dilation

    reach = math.ceil(pixels)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = y**2 + x**2 <= pixels**2
    return _each(c, lambda plane: grey_dilation(plane, footprint=disc, mode="constant"))


def feathered(c: Tensor, pixels: float) -> Tensor:
    """Outside, the nearest value falls to 0 over ``pixels``; inside nothing changes, so small places survive."""
    import numpy as np
    from scipy.ndimage import distance_transform_edt

    def ramp(plane: Any) -> Any:
        if not plane.any():
            return plane
        distance, nearest = distance_transform_edt(plane <= 0, return_indices=True)
        fall = np.clip(1 - distance / (pixels + 1), 0, 1)
        return np.where(plane > 0, plane, plane[tuple(nearest)] * fall)

    return _each(c, ramp)


def reduced(c: Tensor, size: tuple[int, int], way: str = "area") -> Tensor:
    """A map [B,1,H,W] at another size: ``area`` averages, ``max`` lets any change win, ``min`` any keeping,
    ``smooth`` is bilinear with antialiasing. The bounds of the map are kept."""
    import torch.nn.functional as F

    if tuple(c.shape[-2:]) == tuple(size):
        return c
    if way == "max":
        return F.adaptive_max_pool2d(c, size)
    if way == "min":
        return 1 - F.adaptive_max_pool2d(1 - c, size)
    if way == "smooth":
        out = F.interpolate(c, size, mode="bilinear", antialias=True, align_corners=False)
    else:
        out = F.interpolate(c, size, mode="area")
    low, high = c.amin((1, 2, 3), keepdim=True), c.amax((1, 2, 3), keepdim=True)
    return out.maximum(low).minimum(high)  # sums of weights are off by a rounding


def smoothed(c: Tensor, pixels: float) -> Tensor:
    """Gaussian smoothing with this standard deviation."""
    from scipy.ndimage import gaussian_filter

    return _each(c, lambda plane: gaussian_filter(plane, pixels, mode="nearest")) if pixels else c


def normalised(c: Tensor, low: float = 0.01, high: float = 0.99) -> Tensor:
    """Any map of scores [B,1,H,W] to [0,1] between two of its quantiles, each picture by itself; a flat map is 0."""
    import torch

    flat = c.flatten(1).float()
    bottom = torch.quantile(flat, low, dim=1, keepdim=True)
    top = torch.quantile(flat, high, dim=1, keepdim=True)
    span = top - bottom
    scaled = ((flat - bottom) / span.clamp_min(1e-12)).clamp(0, 1)
    return torch.where(span > 0, scaled, torch.zeros_like(scaled)).view_as(c)


def _each(c: Tensor, change: Any) -> Tensor:
    """Every plane of [B,1,H,W] through a function of numpy arrays."""
    import numpy as np
    import torch

    planes = [change(plane[0]) for plane in c.detach().cpu().numpy().astype(np.float64)]
    return torch.from_numpy(np.stack(planes)[:, None]).to(c.device, c.dtype)
