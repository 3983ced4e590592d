"""Metrics that come with counterlens."""

from counterlens.core.hookspecs import hookimpl
from counterlens.plugins.metrics.distance import L1, L2, LInf
from counterlens.plugins.metrics.flips import FlipRate, FlipRateCorrect


@hookimpl
def counterlens_metrics():
    return [FlipRate, FlipRateCorrect, L1, L2, LInf]
