"""Regularizers that come with counterlens."""

from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.plugins.regularizers.distance import L1Penalty, L2Penalty
from counterlens.plugins.regularizers.identity import Identity
from counterlens.plugins.regularizers.perceptual import ClipPenalty, LpipsPenalty
from counterlens.plugins.regularizers.regions import BACKGROUND, FOREGROUND, regional


@hookimpl
def counterlens_regularizers():
    whole = (L1Penalty, L2Penalty, LpipsPenalty, ClipPenalty)
    return [Identity, *whole, *(regional(piece, region) for piece in whole for region in (BACKGROUND, FOREGROUND))]
