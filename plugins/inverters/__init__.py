"""Inverters that come with counterlens."""

from counterlens.core.hookspecs import hookimpl
from counterlens.plugins.inverters.ddim import Ddim
from counterlens.plugins.inverters.edit_friendly import EditFriendly
from counterlens.plugins.inverters.noise import Noise


@hookimpl
def counterlens_inverters():
    return [Noise, Ddim, EditFriendly]
