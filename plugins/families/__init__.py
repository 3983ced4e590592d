"""Model families that come with counterlens."""

from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.plugins.families.ddpm import Ddpm
from counterlens.plugins.families.deepfloyd_if import DeepFloydIf
from counterlens.plugins.families.kandinsky22 import Kandinsky22
from counterlens.plugins.families.ldm import Ldm
from counterlens.plugins.families.sdxl import Sdxl
from counterlens.plugins.families.stable_diffusion import StableDiffusion


@hookimpl
def counterlens_families():
    return [StableDiffusion, Sdxl, Kandinsky22, DeepFloydIf, Ddpm, Ldm]
