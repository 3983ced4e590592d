"""CLIP's image embedding, from a folder in the layout of transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch.nn.functional as F

from counterlens.core.errors import UsageError
from counterlens.core.models.loading import quiet

if TYPE_CHECKING:
    from torch import Tensor

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def extractor(path: Path, device: str, spatial: bool = False) -> Callable[[Tensor], Tensor]:
    """[B,3,H,W] in [0,1] -> embedding [B,D], after the projection; not of unit length."""
    from transformers import CLIPVisionModelWithProjection

    try:
        with quiet():
            model, info = CLIPVisionModelWithProjection.from_pretrained(
                str(path), local_files_only=True, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"{path} is no CLIP model that loads ({reason}): give the folder of one") from None
    if info["missing_keys"]:
        raise UsageError(f"{path} lacks {sorted(info['missing_keys'])[0]!r}: is it a CLIP model?")
    model.eval().requires_grad_(False).to(device)
    side = model.config.image_size

    def extract(images: Tensor) -> Tensor:
        short = min(images.shape[-2:])
        top, left = ((length - short) // 2 for length in images.shape[-2:])
        square = images[..., top : top + short, left : left + short]
        sized = F.interpolate(square, (side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        mean, std = (sized.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
        return model(pixel_values=(sized - mean) / std).image_embeds

    return extract
