"""Names of the places inside a diffusers U-Net that editors may reach.

``mid.before`` (what enters the bottleneck), ``mid.middle`` (after its first residual block), ``mid.after``,
``down.N``, ``up.N`` (what these blocks give), ``skip.N.K`` (the K-th skip connection that ``up.N`` reads, in its order
of use); attention layers have their module path as name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from counterlens.core.errors import UsageError


@dataclass(frozen=True, eq=False)
class Site:
    """An activation [B,C,h',w']: what ``module`` gives, or, with ``skip``, the skip connection that it reads."""

    module: nn.Module
    skip: int | None = None


def activation_sites(unet: nn.Module) -> dict[str, Site]:
    """Activation sites by name; a model without a mid block (a transformer) has none of ``mid``."""
    sites: dict[str, Site] = {}
    for way in ("down", "up"):
        for i, block in enumerate(blocks(unet, f"{way}_blocks")):
            sites[f"{way}.{i}"] = Site(block)
    for i, block in enumerate(blocks(unet, "up_blocks")):
        for k in range(len(blocks(block, "resnets"))):
            sites[f"skip.{i}.{k}"] = Site(block, k)
    mid = getattr(unet, "mid_block", None)
    if mid is not None:
        sites["mid.before"] = Site(blocks(unet, "down_blocks")[-1])
        sites["mid.middle"] = Site(blocks(mid, "resnets")[0])
        sites["mid.after"] = Site(mid)
    return sites


def check_site(site: str, sites: Iterable[str], who: str = "the pipeline") -> None:
    """UsageError with the sites that there are; families whose networks have a bottleneck where there are none."""
    names = list(sites)
    if site in names:
        return
    if not names or (site.startswith("mid.") and not any(name.startswith("mid.") for name in names)):
        raise UsageError(
            f"{who} has no mid block, so no h-space: use a U-Net (ddpm, ldm, stable-diffusion, sdxl, kandinsky22, "
            f"deepfloyd-if){'; it has ' + ', '.join(names) if names else ''}"
        )
    raise UsageError(f"{who} has no activation site {site!r}; it has {', '.join(names)}")


def blocks(module: nn.Module, name: str) -> list[nn.Module]:
    """The blocks in a module's list of that name, empty if it has none."""
    return list(getattr(module, name, None) or ())


def attention_sites(unet: nn.Module) -> dict[str, nn.Module]:
    """Attention layers by module path, each with a diffusers processor."""
    from diffusers.models.attention_processor import Attention

    return {path: module for path, module in unet.named_modules() if isinstance(module, Attention)}
