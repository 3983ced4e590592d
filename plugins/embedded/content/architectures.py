"""The sizes of the domains' networks, in one place."""

from __future__ import annotations

from counterlens.core.training.networks import Shape
from counterlens.plugins.embedded.content.captions import MAX_LENGTH

SHAPES = {
    "shapes": Shape(32, (32, 64, 64, 64), (24, 48, 48), (64, 64), image_width=48, max_length=MAX_LENGTH),
    "digits": Shape(32, (32, 48, 48, 48), (16, 32, 32), (48, 48), max_length=MAX_LENGTH),
}
