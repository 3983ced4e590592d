"""The frozen values that flow: ``Request -> Scene -> Inversion -> Frames -> Counterfactual -> Report``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from counterlens.core.diffusion.lock import Lock
from counterlens.core.images.map_ops import feathered, reduced
from counterlens.core.utils.memo import Memo
from counterlens.core.utils.seeds import generator

if TYPE_CHECKING:
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.data.dataset import Dataset
    from counterlens.core.diffusion.levels import Level
    from counterlens.core.diffusion.network import Network
    from counterlens.core.diffusion.step import Condition, Extra
    from counterlens.core.problem.items import Item


def locked(
    scene: Scene,
    change: Tensor,
    reduce: str = "area",
    feather: float = 0.0,
    composite: bool = True,
    **how: Any,
) -> Scene:
    """The scene under this change map [B,1,H,W] in [0,1].

    ``reduce``: how it gets to the latents' size (see ``maps.reduced``); ``feather``: pixels outside it over which the
    edited picture fades into the source; ``how``: further fields of ``Lock``.
    """
    support = (change > 0).to(change.dtype)
    alpha = feathered(support, feather) if feather else support
    blocks = getattr(scene.resources.pipeline.unet.config, "block_out_channels", (1,))
    lock = Lock(
        change=change,
        keep=1 - reduced(change, (scene.x0.shape[-2], scene.x0.shape[-1]), reduce),
        x0=scene.x0,
        image=scene.image,
        alpha=alpha if composite else torch.ones_like(alpha),
        top=max(1.0, float(scene.grid[0].t)),
        stride=2 ** (len(blocks) - 1),
        **how,
    )
    return replace(scene, change_map=change, lock=lock)


def noise_for(scene: Scene, count: int = 1, salt: int = 0) -> tuple[Tensor, ...]:
    """``count`` noises [B,C,h,w], each row from its own image's seed: order and batch do not matter."""
    shape = scene.x0.shape[1:]

    def draw(seed: int) -> Tensor:
        return torch.randn((count, *shape), generator=generator(seed + salt))

    drawn = torch.stack([draw(seed) for seed in scene.seeds], 1).to(scene.x0.device)
    return tuple(drawn)


@dataclass(frozen=True)
class Scene:
    """A batch of images ready for the loop. All tensors have the batch first; images are in [-1, 1].

    ``image`` [B,3,H,W], ``x0`` [B,C,h,w] its latent, ``cond``/``extra`` what the network is asked under,
    ``source``/``target`` class indices [B], ``seeds`` one integer an image, ``rows`` each row's place in the batch,
    ``strength`` [B] what a search multiplies every editor's and the guidance's own strength by (0: no change),
    ``change_map`` [B,1,H,W] in [0,1] where the picture may change, ``lock`` what holds the rest of it.
    """

    items: tuple[Item, ...]
    image: Tensor
    x0: Tensor
    cond: Condition
    extra: Extra
    source: Tensor
    target: Tensor
    seeds: tuple[int, ...]
    rows: tuple[int, ...]
    grid: tuple[Level, ...]
    net: Network
    resources: Resources
    strength: Tensor
    change_map: Tensor | None = None
    lock: Lock | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, strength: Tensor) -> Scene:
        """The same scene with another strength [B]."""
        return replace(self, strength=strength.to(self.x0.device, self.x0.dtype))

    def take(self, index: Sequence[int]) -> Scene:
        """The same scene with only these rows, in this order; a row may be taken more than once."""
        at = list(index)
        return replace(
            self,
            items=tuple(self.items[i] for i in at),
            image=self.image[at],
            x0=self.x0[at],
            cond={k: v[at] for k, v in self.cond.items()},
            extra={k: {n: v[at] for n, v in parts.items()} for k, parts in self.extra.items()},
            source=self.source[at],
            target=self.target[at],
            seeds=tuple(self.seeds[i] for i in at),
            rows=tuple(self.rows[i] for i in at),
            strength=self.strength[at],
            change_map=None if self.change_map is None else self.change_map[at],
            lock=None if self.lock is None else self.lock.take(at),
        )

    def picture(self, x0: Tensor) -> Tensor:
        """What becomes of x0 [B,C,h,w]: decoded, and put over the source where a lock says so; [B,3,H,W]."""
        image = self.resources.pipeline.decode(x0)
        return image if self.lock is None else self.lock.composite(image)


@dataclass(frozen=True)
class Resources:
    """What a scene is explained with: the lent pipeline, the explained classifier, and labelled images to learn from.

    ``others``: further classifiers that pieces asked for, by URI; ``memo``: what pieces have learned from the
    examples, or opened, kept for the run.
    """

    pipeline: Any  # core.pipeline.Pipeline: encode, decode, condition
    classifier: Classifier
    options: Mapping[str, Any] = field(default_factory=dict)
    examples: Dataset | None = None
    memo: Memo = field(default_factory=Memo)
    others: Mapping[str, Classifier] = field(default_factory=dict)
