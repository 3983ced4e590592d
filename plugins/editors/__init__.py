"""Editors that come with counterlens."""

from counterlens.core.hookspecs import hookimpl
from counterlens.plugins.editors.clamp import Clamp


@hookimpl
def counterlens_editors():
    return [Clamp]
