"""Captioners that come with counterlens: words for a picture that name its class."""

from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.plugins.captioners.file import FileOf
from counterlens.plugins.captioners.hf_vlm import HfVlm
from counterlens.plugins.captioners.openflamingo import OpenFlamingo
from counterlens.plugins.captioners.template import Template


@hookimpl
def counterlens_captioners():
    return [FileOf, HfVlm, OpenFlamingo, Template]


@hookimpl
def counterlens_doctor():
    from counterlens.plugins.captioners.requirements import checks

    return checks()
