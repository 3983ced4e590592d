"""Combiners that come with counterlens."""

from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.plugins.combiners.cfg import Cfg


@hookimpl
def counterlens_combiners():
    return [Cfg]
