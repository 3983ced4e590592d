"""Finders of directions in activations that come with counterlens."""

from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.plugins.finders.counterfactual import CounterfactualFinder
from counterlens.plugins.finders.jacobian import Jacobian
from counterlens.plugins.finders.pca import Pca
from counterlens.plugins.finders.random import Random
from counterlens.plugins.finders.supervised import Supervised


@hookimpl
def counterlens_finders():
    return [CounterfactualFinder, Jacobian, Pca, Random, Supervised]
