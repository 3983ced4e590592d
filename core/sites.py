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
        for i, block in enumerate(getattr(unet, f"{way}_blocks", ())):
            sites[f"{way}.{i}"] = block
    mid = getattr(unet, "mid_block", None)
    if mid is not None:
        sites["mid.before"] = unet.down_blocks[-1]  # type: ignore[index]
        sites["mid.middle"] = mid.resnets[0]  # type: ignore[index]
        sites["mid.after"] = mid
    return sites


def attention_sites(unet: nn.Module) -> dict[str, nn.Module]:
    """Attention layers by module path, each with a diffusers processor."""
    from diffusers.models.attention_processor import Attention

    return {path: module for path, module in unet.named_modules() if isinstance(module, Attention)}
