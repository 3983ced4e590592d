"""Names of the places inside a diffusers U-Net that editors may reach.

``mid.before`` (what enters the bottleneck), ``mid.middle`` (after its first residual block), ``mid.after``,
``down.N``, ``up.N``; attention layers have their module path as name.
"""

from __future__ import annotations

from torch import nn


def activation_sites(unet: nn.Module) -> dict[str, nn.Module]:
    """Activation sites by name; a model without a mid block (a transformer) has none."""
    sites: dict[str, nn.Module] = {}
    for way in ("down", "up"):
        for i, block in enumerate(blocks(unet, f"{way}_blocks")):
            sites[f"{way}.{i}"] = block
    mid = getattr(unet, "mid_block", None)
    if mid is not None:
        sites["mid.before"] = blocks(unet, "down_blocks")[-1]
        sites["mid.middle"] = blocks(mid, "resnets")[0]
        sites["mid.after"] = mid
    return sites


def blocks(module: nn.Module, name: str) -> list[nn.Module]:
    """The blocks in a module's list of that name, empty if it has none."""
    return list(getattr(module, name, ()))


def attention_sites(unet: nn.Module) -> dict[str, nn.Module]:
    """Attention layers by module path, each with a diffusers processor."""
    from diffusers.models.attention_processor import Attention

    return {path: module for path, module in unet.named_modules() if isinstance(module, Attention)}
