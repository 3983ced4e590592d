"""Regularizers that come with counterlens."""

from counterlens.core.hookspecs import hookimpl
from counterlens.plugins.regularizers.distance import L1, L2, BackgroundL1, BackgroundL2


@hookimpl
def counterlens_regularizers():
    return [L1, L2, BackgroundL1, BackgroundL2]
