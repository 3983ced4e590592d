"""What latent pipelines share: an autoencoder in chunks, so that memory does not grow with the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from counterlens.core.models.pipeline import Pipeline

PIXELS = 4 * 512 * 512  # at once through the autoencoder: four images of 512x512


def chunked(call: Callable[[Tensor], Tensor], x: Tensor, pixels: int) -> Tensor:
    """``call`` on rows of ``x``, so many at once that their ``pixels`` each stay within the bound.

    With a gradient and more than one chunk, a chunk's activations are computed again going backward.
    """
    parts = x.split(max(1, PIXELS // pixels))
    if len(parts) == 1 or not (torch.is_grad_enabled() and x.requires_grad):
        return torch.cat([call(part) for part in parts])
    return torch.cat([checkpoint(call, part, use_reentrant=False) for part in parts])  # type: ignore[misc]


class Latent(Pipeline):
    """A pipeline whose loop runs on the latents of ``modules[codec]``; subclasses say how x0 is scaled."""

    codec: ClassVar[str] = "vae"

    @property
    def factor(self) -> int:
        """Pixels a latent pixel, each way."""
        return 2 ** (len(self.modules[self.codec].config.block_out_channels) - 1)  # type: ignore[union-attr, arg-type]

    @property
    def size(self) -> tuple[int, int]:
        height, width = sides(self.unet)
        return height * self.factor, width * self.factor

    @property
    def channels(self) -> int:
        return self.modules[self.codec].config.latent_channels  # type: ignore[union-attr, return-value]

    def encode(self, image: Tensor) -> Tensor:
        def call(part: Tensor) -> Tensor:
            codec = self.use(self.codec)
            return self.scaled(self.latents(codec.encode(part.to(codec.dtype))).float())

        return chunked(call, image, image.shape[-2] * image.shape[-1])

    def decode(self, x0: Tensor) -> Tensor:
        def call(part: Tensor) -> Tensor:
            codec = self.use(self.codec)
            return self.pixels(codec, self.unscaled(part).to(codec.dtype)).float()

        return chunked(call, x0, x0.shape[-2] * x0.shape[-1] * self.factor**2)

    def latents(self, encoded: Any) -> Tensor:
        """The autoencoder's answer as a tensor: the posterior's mode, never a sample."""
        return encoded.latent_dist.mode()

    def pixels(self, codec: Any, z: Tensor) -> Tensor:
        return codec.decode(z).sample

    def scaled(self, z: Tensor) -> Tensor:
        """Latents of the autoencoder -> x0 of the loop (about unit variance)."""
        return z * self.modules[self.codec].config.scaling_factor  # type: ignore[union-attr, operator]

    def unscaled(self, x0: Tensor) -> Tensor:
        return x0 / self.modules[self.codec].config.scaling_factor  # type: ignore[union-attr, operator]


class Pixel(Pipeline):
    """A pipeline whose loop runs on the image itself."""

    @property
    def size(self) -> tuple[int, int]:
        return sides(self.unet)

    def encode(self, image: Tensor) -> Tensor:
        return image.float()

    def decode(self, x0: Tensor) -> Tensor:
        return x0.float()


def sides(unet: Any) -> tuple[int, int]:
    """Height and width of what a U-Net was trained on."""
    side = unet.config.sample_size
    return (side, side) if isinstance(side, int) else tuple(side)
