"""Kiki and Bouba: 32x32 RGB images drawn from known factors.

The outline is ``r(p) = size * (1 - depth * p**a)`` where ``p`` in [0,1] runs from the tip of a lobe to the valley
beside it. One number decides the class: ``a = 2**(1.4 * (1 - 2 * spikiness))``. At one half the flanks of a lobe are
straight (``a`` = 1); below, they bulge outwards (bouba); above, they cave in and leave a spike (kiki).
"""

from __future__ import annotations

import colorsys
from dataclasses import asdict, dataclass, replace

import numpy as np

SIZE = 32
CLASSES = ("bouba", "kiki")
CLEAR = 0.2  # distance of spikiness from one half beyond which a person has no doubt
SEEDS = {"train": 1001, "train-judge": 1002, "val": 1003, "test": 1004}
COUNTS = {"train": 16000, "train-judge": 16000, "val": 1000, "test": 1000}
GAP = 0.03  # nothing is drawn within 1/2 +- GAP: there a person cannot tell the classes apart at this size
LOBES = (4, 7)
SAMPLES = 3  # sub-pixel samples along each axis; each has a soft edge of its own width


@dataclass(frozen=True)
class Factors:
    """What an image is drawn from; rendering it again gives the same bytes."""

    spikiness: float  # [0,1]; kiki above 1/2
    hue: float  # [0,1), of the shape
    background: float  # [0,1), hue of the background
    size: float  # [0.27,0.40], outer radius as a share of the image's width
    angle: float  # [0,1), turn as a share of one lobe (a turn by a whole lobe changes nothing)
    cx: float  # [0.43,0.57], centre as a share of the width
    cy: float
    lobes: int  # 4 to 7

    @property
    def label(self) -> int:
        return int(self.spikiness > 0.5)

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def draw_factors(rng: np.random.Generator) -> Factors:
    """One independent draw of every factor; spikiness covers its whole range but the gap."""
    spikiness = rng.uniform(0, 1 - 2 * GAP)
    return Factors(
        spikiness=float(spikiness if spikiness < 0.5 - GAP else spikiness + 2 * GAP),
        hue=float(rng.uniform()),
        background=float(rng.uniform()),
        size=float(rng.uniform(0.27, 0.40)),
        angle=float(rng.uniform()),
        cx=float(rng.uniform(0.43, 0.57)),
        cy=float(rng.uniform(0.43, 0.57)),
        lobes=int(rng.integers(LOBES[0], LOBES[1] + 1)),
    )


def factors(split: str, count: int | None = None) -> list[Factors]:
    """The factors of a split; a shorter count is a prefix of the whole."""
    if split not in SEEDS:
        raise ValueError(f"unknown split {split!r}; there are {', '.join(SEEDS)}")
    rng = np.random.default_rng(SEEDS[split])
    return [draw_factors(rng) for _ in range(COUNTS[split] if count is None else count)]


def _grid() -> tuple[np.ndarray, np.ndarray]:
    axis = (np.arange(SIZE * SAMPLES) + 0.5) / (SIZE * SAMPLES)
    return np.meshgrid(axis, axis)


def coverage(f: Factors) -> np.ndarray:
    """Share of each pixel inside the outline, [32,32] in [0,1]."""
    x, y = _grid()
    x, y = x - f.cx, y - f.cy
    phase = np.arctan2(y, x) * f.lobes / (2 * np.pi) - f.angle
    from_tip = 2 * np.abs(phase - np.round(phase))
    power = 2.0 ** (1.4 * (1 - 2 * f.spikiness))
    depth = 0.34 + 0.28 * f.spikiness
    outline = f.size * (1 - depth * from_tip**power)
    inside = np.clip((outline - np.hypot(x, y)) * SIZE * SAMPLES + 0.5, 0, 1)
    return inside.reshape(SIZE, SAMPLES, SIZE, SAMPLES).mean((1, 3))


def render(f: Factors) -> np.ndarray:
    """The image of the factors, uint8 [32,32,3]."""
    alpha = coverage(f)[..., None]
    front = np.array(colorsys.hsv_to_rgb(f.hue, 0.85, 0.70))
    back = np.array(colorsys.hsv_to_rgb(f.background, 0.30, 0.92))
    return np.round(255 * (alpha * front + (1 - alpha) * back)).astype(np.uint8)


def images(split: str, count: int | None = None) -> tuple[np.ndarray, np.ndarray, list[Factors]]:
    """uint8 [N,32,32,3], labels [N] and factors of a split."""
    drawn = factors(split, count)
    return np.stack([render(f) for f in drawn]), np.array([f.label for f in drawn]), drawn


def opposite(f: Factors) -> Factors:
    """The same factors with the other class's spikiness: mirrored at one half, and at least CLEAR away from it."""
    mirrored = 1 - f.spikiness
    return replace(f, spikiness=max(mirrored, 0.5 + CLEAR) if mirrored > 0.5 else min(mirrored, 0.5 - CLEAR))


def true_counterfactual(index: int, split: str = "test") -> np.ndarray:
    """The image that differs from image ``index`` in its class and in nothing else, uint8 [32,32,3]."""
    if not 0 <= index < COUNTS[split]:
        raise IndexError(f"shapes has {COUNTS[split]} images in {split} (0 to {COUNTS[split] - 1}), not {index}")
    return render(opposite(factors(split, index + 1)[index]))


def with_shortcut(drawn: list[Factors], share: float, seed: int) -> list[Factors]:
    """The factors with other backgrounds: hues below 1/2 for kiki, above for bouba, in ``share`` of the images."""
    rng = np.random.default_rng(seed)
    agree = rng.uniform(size=len(drawn)) < share
    hue = rng.uniform(0, 0.5, size=len(drawn))
    upper = [(f.label == 0) == bool(a) for f, a in zip(drawn, agree, strict=True)]
    return [replace(f, background=float(h + 0.5 * u)) for f, h, u in zip(drawn, hue, upper, strict=True)]


def shortcut_label(f: Factors) -> int:
    """The class that the background says: kiki on hues below one half."""
    return int(f.background < 0.5)
