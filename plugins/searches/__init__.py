"""Searches that come with counterlens."""

from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.plugins.searches.bracket import Bracket
from counterlens.plugins.searches.descent import Descent
from counterlens.plugins.searches.h_space import HSpaceSearch
from counterlens.plugins.searches.newton import Newton
from counterlens.plugins.searches.once import Once
from counterlens.plugins.searches.per_step import PerStep
from counterlens.plugins.searches.sweep import Sweep


@hookimpl
def counterlens_searches():
    return [Bracket, Descent, HSpaceSearch, Newton, Once, PerStep, Sweep]
