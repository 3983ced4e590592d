"""Trainers that come with counterlens."""

from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.plugins.trainers.backbone import Backbone
from counterlens.plugins.trainers.classifier import ClassifierTrainer
from counterlens.plugins.trainers.embeddings import EmbeddingsTrainer
from counterlens.plugins.trainers.lora import Lora
from counterlens.plugins.trainers.textual_inversion import TextualInversion


@hookimpl
def counterlens_trainers():
    return [Backbone, ClassifierTrainer, EmbeddingsTrainer, Lora, TextualInversion]
