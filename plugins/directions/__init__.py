"""Directions that come with counterlens."""

from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.plugins.directions.lda import Lda
from counterlens.plugins.directions.logistic import Logistic
from counterlens.plugins.directions.matched import Matched
from counterlens.plugins.directions.mean_difference import MeanDifference
from counterlens.plugins.directions.neighbours import Neighbours
from counterlens.plugins.directions.pca_cleaned import PcaCleaned
from counterlens.plugins.directions.svd import Svd
from counterlens.plugins.directions.text import Text


@hookimpl
def counterlens_directions():
    return [MeanDifference, Matched, Lda, Logistic, Neighbours, PcaCleaned, Svd, Text]
