"""Regularizers that come with counterlens."""

from counterlens.core.hookspecs import hookimpl
from counterlens.plugins.regularizers import distance, perceptual


@hookimpl
def counterlens_regularizers():
    return [
        *(distance.L1, distance.L2),
        *(distance.BackgroundL1, distance.BackgroundL2, distance.ForegroundL1, distance.ForegroundL2),
        *(perceptual.Lpips, perceptual.BackgroundLpips, perceptual.ForegroundLpips),
        *(perceptual.Clip, perceptual.BackgroundClip, perceptual.ForegroundClip),
    ]
