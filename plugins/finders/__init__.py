"""Finders of directions in activations that come with counterlens."""

from counterlens.core.hookspecs import hookimpl
from counterlens.plugins.finders.jacobian import Jacobian
from counterlens.plugins.finders.pca import Pca
from counterlens.plugins.finders.random import Random


@hookimpl
def counterlens_finders():
    return [Random, Pca, Jacobian]
