"""Regularizers that come with counterlens."""

from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.plugins.regularizers import distance, perceptual
from counterlens.plugins.regularizers.identity import Identity


@hookimpl
def counterlens_regularizers():
    return [
        *(distance.L1, distance.L2),
        *(distance.BackgroundL1, distance.BackgroundL2, distance.ForegroundL1, distance.ForegroundL2),
        *(perceptual.Lpips, perceptual.BackgroundLpips, perceptual.ForegroundLpips),
        Identity,
        *(perceptual.Clip, perceptual.BackgroundClip, perceptual.ForegroundClip),
    ]
