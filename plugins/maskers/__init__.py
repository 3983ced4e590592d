"""Maskers that come with counterlens: where a picture may change."""

from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.plugins.maskers.attribution import Attribution
from counterlens.plugins.maskers.cross_attention import CrossAttention
from counterlens.plugins.maskers.difference import Difference
from counterlens.plugins.maskers.file import File
from counterlens.plugins.maskers.given import Given
from counterlens.plugins.maskers.sam import Sam
from counterlens.plugins.maskers.sam_hq import SamHq
from counterlens.plugins.maskers.strips import Strips


@hookimpl
def counterlens_maskers():
    return [Attribution, CrossAttention, Difference, File, Given, Sam, SamHq, Strips]


@hookimpl
def counterlens_doctor():
    from counterlens.plugins.maskers.requirements import checks

    return checks()
