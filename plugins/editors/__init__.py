"""Editors that come with counterlens."""

from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.plugins.editors.arithmetic import Arithmetic
from counterlens.plugins.editors.arithmetic_prediction import ArithmeticPrediction
from counterlens.plugins.editors.blend import Blend
from counterlens.plugins.editors.change_map import ChangeMap
from counterlens.plugins.editors.clamp import Clamp
from counterlens.plugins.editors.h_space import HSpaceEditor
from counterlens.plugins.editors.prompt_to_prompt import PromptToPrompt
from counterlens.plugins.editors.region import Region
from counterlens.plugins.editors.toward import Toward
from counterlens.plugins.editors.words import Words


@hookimpl
def counterlens_editors():
    return [
        Arithmetic,
        ArithmeticPrediction,
        Blend,
        ChangeMap,
        Clamp,
        HSpaceEditor,
        PromptToPrompt,
        Region,
        Toward,
        Words,
    ]
