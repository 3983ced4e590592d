"""Trainers that come with counterlens."""

from counterlens.core.hookspecs import hookimpl
from counterlens.plugins.trainers.classifier import Classifier
from counterlens.plugins.trainers.embeddings import Embeddings
from counterlens.plugins.trainers.lora import Lora


@hookimpl
def counterlens_trainers():
    return [Classifier, Embeddings, Lora]
