"""``probe:DIR``: one linear layer on the unit embeddings of the CLIP image encoder in ``DIR/image_encoder``.

Only the layer is in the classifier's file; the encoder stays where it is, and is not trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from counterlens.core.errors import MissingError

if TYPE_CHECKING:
    from torch import Tensor, nn


def build(folder: str, classes: int) -> nn.Module:
    """[B,3,h,w], normalised as the encoder's processor says -> [B,classes]; MissingError without the encoder."""
    from pathlib import Path

    import torch
    from torch import nn
    from transformers import CLIPVisionModelWithProjection

    path = Path(folder).expanduser() / "image_encoder"
    if not path.is_dir():
        raise MissingError(f"{path} is not there: a probe needs the image encoder that it was trained on")
    encoder = CLIPVisionModelWithProjection.from_pretrained(str(path), local_files_only=True, use_safetensors=True)
    encoder.eval().requires_grad_(False)

    class Probe(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(encoder.config.projection_dim, classes)
            self.frozen = (encoder,)  # in a tuple: no part of the state dict

        def forward(self, x: Tensor) -> Tensor:
            network = self.frozen[0].to(x.device)
            embedding = network(pixel_values=x.to(network.dtype)).image_embeds.float()
            return self.head(torch.nn.functional.normalize(embedding, dim=1).to(self.head.weight.dtype))

    return Probe()
