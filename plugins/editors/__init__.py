"""Editors that come with counterlens."""

from counterlens.core.hookspecs import hookimpl
from counterlens.plugins.editors.arithmetic import Arithmetic
from counterlens.plugins.editors.arithmetic_prediction import ArithmeticPrediction
from counterlens.plugins.editors.change_map import ChangeMap
from counterlens.plugins.editors.clamp import Clamp
from counterlens.plugins.editors.h_space import HSpace
from counterlens.plugins.editors.toward import Toward
from counterlens.plugins.editors.words import Words


@hookimpl
def counterlens_editors():
    return [Arithmetic, ArithmeticPrediction, ChangeMap, Clamp, HSpace, Toward, Words]
