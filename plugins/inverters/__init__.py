"""Inverters that come with counterlens."""

from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.plugins.inverters.ddim import Ddim
from counterlens.plugins.inverters.direct import Direct
from counterlens.plugins.inverters.edit_friendly import EditFriendly
from counterlens.plugins.inverters.negative_prompt import NegativePrompt
from counterlens.plugins.inverters.noise import Noise
from counterlens.plugins.inverters.null_text import NullText


@hookimpl
def counterlens_inverters():
    return [Noise, Ddim, EditFriendly, Direct, NegativePrompt, NullText]
