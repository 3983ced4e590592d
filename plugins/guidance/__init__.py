"""Guidance that comes with counterlens."""

from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.plugins.guidance.clip_text import ClipText
from counterlens.plugins.guidance.disagreement import Disagreement
from counterlens.plugins.guidance.neuron import Neuron
from counterlens.plugins.guidance.target import Target


@hookimpl
def counterlens_guidance():
    return [ClipText, Disagreement, Neuron, Target]
