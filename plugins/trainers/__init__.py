"""Trainers that come with counterlens."""

from counterlens.core.hookspecs import hookimpl
from counterlens.plugins.trainers.embeddings import Embeddings


@hookimpl
def counterlens_trainers():
    return [Embeddings]
