"""What guidance and regularizers look at: a clean estimate of a scene, seen in many ways."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor

from counterlens.core.images.pixels import clamped, unit

if TYPE_CHECKING:
    from counterlens.core.problem.scene import Scene


@dataclass(eq=False)
class View:
    """What guidance and regularizers look at: a clean estimate ``x0`` [B,C,h,w] of a scene, seen in many ways.

    Everything is computed once, when first asked for, and is differentiable with respect to ``x0``.
    ``draw`` numbers what is drawn at random (crops, noise), with each image's own seed; None draws nothing, for numbers
    that are compared.
    """

    x0: Tensor
    scene: Scene
    draw: int | None = None
    heard: dict[str, Any] = field(default_factory=dict, repr=False)  # activations of the explained classifier

    def plainly(self) -> View:
        """The same picture without random draws and without a gradient; what is decoded is not decoded again."""
        plain = View(self.x0.detach(), self.scene)
        plain.__dict__["image"] = self.image.detach()
        return plain

    @cached_property
    def image(self) -> Tensor:
        """[B,3,H,W] in about [-1, 1]; not clamped, so that saturated pixels keep a gradient."""
        return self.scene.picture(self.x0)

    @cached_property
    def shown(self) -> Tensor:
        """[B,3,H,W] in [0,1]: the image clamped straight-through, as classifiers look at it."""
        return unit(clamped(self.image))

    @cached_property
    def logits(self) -> Tensor:
        """[B,K] of the explained classifier."""
        return self.scene.resources.classifier.logits(self.shown)

    def logits_of(self, uri: str) -> Tensor:
        """[B,K] of another classifier (of ``Piece.classifiers``), in the order of the explained one's labels."""
        resources = self.scene.resources
        other = resources.others[uri]
        order = [other.labels.index(label) for label in resources.classifier.labels]
        return other.logits(self.shown)[:, order]

    def activation(self, layer: str) -> Tensor:
        """[B,U]: what the units of a layer of the explained classifier say; see core/classifiers/units.py."""
        from counterlens.core.classifiers.units import unit_activations

        if layer not in self.heard:
            logits, self.heard[layer] = unit_activations(self.scene.resources.classifier, self.shown, layer)
            self.__dict__.setdefault("logits", logits)
        return self.heard[layer]

    def cropped(self, count: int, side: int, power: float = 0.3, noise: float = 0.0) -> Tensor:
        """[B·count,3,side,side]: random crops of ``shown``, ``count`` an image (images/random_crops.py)."""
        from counterlens.core.images.random_crops import crops

        seeds = [(seed * 1_000_003 + (self.draw or 0)) % 2**63 for seed in self.scene.seeds]
        return crops(self.shown, count, side, power, noise, seeds)
