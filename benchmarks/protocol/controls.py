"""Control rows: what any table of counterfactuals has to be read against.

Each answers a question that a method's number alone does not: would no change, a random one, an adversarial one or
simply another photograph have scored as well? ``reconstruct`` is a method; the others need no pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from counterlens.core.classifiers.classifier import Classifier
from counterlens.core.images.pixels import rounded, to_unit_tensor
from counterlens.core.utils.seeds import generator

PGD_STEPS = 20
LEAST_RADIUS, MOST_RADIUS, BISECTIONS = 0.002, 1.0, 4  # root mean square of the change
FIXED_SIZE = 0.05  # root mean square of a random change when there is no method to match


@dataclass(frozen=True)
class ControlInputs:
    """What controls work on: ``images`` [B,3,H,W] in [0,1], classes by name, one seed an image, real training images
    by label (uint8 [n,H,W,3]), and for ``random`` the root mean square of the change to match [B]."""

    classifier: Classifier
    images: Tensor
    targets: tuple[str, ...]
    seeds: tuple[int, ...]
    real: Callable[[], Mapping[str, np.ndarray]]
    sizes: Tensor | None = None

    def generator(self, row: int, salt: int) -> torch.Generator:
        return generator(self.seeds[row] + salt)

    def real_of(self, row: int) -> Tensor:
        """Real images [n,3,H,W] in [0,1] of the row's target class."""
        found = self.real()
        if self.targets[row] not in found:
            raise RuntimeError(f"no training image of class {self.targets[row]!r} among the first of the gallery")
        pictures = to_unit_tensor(found[self.targets[row]])
        if pictures.shape[1:] != self.images.shape[1:]:
            raise RuntimeError("real images have another size than the sources: give the protocol a size")
        return pictures


@dataclass(frozen=True)
class Control:
    """A control row: its images [B,3,H,W] in [0,1] and the gradient evaluations of each."""

    make: Callable[[ControlInputs], tuple[Tensor, list[int]]]
    summary: str


def identity(stage: ControlInputs) -> tuple[Tensor, list[int]]:
    """The source itself: no distance, no flip; what every distance and every set metric starts from."""
    return stage.images.clone(), [0] * len(stage.images)


def random(stage: ControlInputs) -> tuple[Tensor, list[int]]:
    """White noise of the same root mean square as the methods' changes of this image."""
    out = []
    for row, image in enumerate(stage.images):
        noise = torch.randn(image.shape, generator=stage.generator(row, 1))
        size = float(stage.sizes[row]) if stage.sizes is not None else FIXED_SIZE
        out.append(_of_size(image, noise, size))
    return torch.stack(out), [0] * len(out)


def _of_size(image: Tensor, noise: Tensor, size: float) -> Tensor:
    """The image with noise of a root mean square that is ``size`` after clamping, as near as 20 bisections come."""
    low, high = 0.0, 8.0 * size + 1e-6
    for _ in range(20):
        middle = (low + high) / 2
        reached = ((image + middle * noise).clamp(0, 1) - image).square().mean().sqrt()
        low, high = (middle, high) if float(reached) < size else (low, middle)
    return (image + low * noise).clamp(0, 1)


def nearest_real(stage: ControlInputs) -> tuple[Tensor, list[int]]:
    """The nearest training image (L2) of the target class: realistic, of the class, but another picture."""
    out = []
    for row, image in enumerate(stage.images):
        pictures = stage.real_of(row)
        out.append(pictures[int((pictures - image).square().flatten(1).sum(1).argmin())])
    return torch.stack(out), [0] * len(out)


def real(stage: ControlInputs) -> tuple[Tensor, list[int]]:
    """A training image of the target class drawn at random: the floor of every set metric, real against real."""
    out = []
    for row in range(len(stage.images)):
        pictures = stage.real_of(row)
        out.append(pictures[int(torch.randint(len(pictures), (1,), generator=stage.generator(row, 2)))])
    return torch.stack(out), [0] * len(out)


def pgd(stage: ControlInputs) -> tuple[Tensor, list[int]]:
    """Projected gradient descent in L2 (Madry et al. 2018, eq. 3) on the explained classifier, at the least radius
    that it decides as the target: adversarial, so a judge should not follow. The radius is doubled until the image
    flips, then bisected."""
    x = stage.images
    target = torch.tensor([stage.classifier.label_index(name) for name in stage.targets])
    best, high, spent = x.clone(), torch.full((len(x),), torch.inf), torch.zeros(len(x), dtype=torch.long)

    def attempt(at: Tensor, radius: Tensor) -> None:
        tried = _attack(stage.classifier, x[at], target[at], radius)
        spent[at] += PGD_STEPS
        done = _decides(stage.classifier, tried) == target[at]
        never = torch.isinf(high[at])
        best[at[done | never]] = tried[done | never]  # what never flips shows its last try
        high[at[done]] = radius[done]

    radius = torch.full((len(x),), LEAST_RADIUS)
    while len(at := torch.nonzero(torch.isinf(high) & (radius <= MOST_RADIUS))[:, 0]):
        attempt(at, radius[at])
        radius[at] *= 2
    low, at = high / 2, torch.nonzero(torch.isfinite(high))[:, 0]
    for _ in range(BISECTIONS if len(at) else 0):
        middle = (low[at] * high[at]).sqrt()
        attempt(at, middle)
        low[at] = torch.where(high[at] == middle, low[at], middle)
    return best, spent.tolist()


def _attack(classifier: Classifier, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
    """Steepest descent of the target's cross-entropy in the ball of root mean square ``radius`` [B] around x."""
    delta, radius = torch.zeros_like(x), radius.view(-1, 1, 1, 1)
    for _ in range(PGD_STEPS):
        moved = (x + delta).clamp(0, 1).requires_grad_()
        logits = classifier.logits(moved)
        loss = torch.nn.functional.cross_entropy(logits, target.to(logits.device), reduction="sum")
        (g,) = torch.autograd.grad(loss, moved)
        delta = delta - 2.5 * radius / PGD_STEPS * g.cpu() / _rms(g.cpu())
        delta = delta * (radius / _rms(delta)).clamp_max(1)
    return rounded(x + delta)


def _rms(x: Tensor) -> Tensor:
    """Root mean square of each image, [B,1,1,1]."""
    return x.flatten(1).square().mean(1).sqrt().clamp_min(1e-12).view(-1, 1, 1, 1)


@torch.no_grad()
def _decides(classifier: Classifier, images: Tensor) -> Tensor:
    return classifier.probabilities(images.to(classifier.device)).argmax(1).cpu()


CONTROLS = {
    "identity": Control(identity, "the source itself"),
    "random": Control(random, "random change of the same size as the methods'"),
    "pgd": Control(pgd, "adversarial: PGD on the explained classifier"),
    "nearest-real": Control(nearest_real, "nearest training image of the target class"),
    "real": Control(real, "random training image of the target class: real against real"),
}
FOLLOWING = ("random",)


def change_of(folder: Path) -> float:
    """The root mean square change of a finished item, from its pictures."""
    before, after = (_pixels(folder / f"{name}.png") for name in ("source", "counterfactual"))
    return float(np.sqrt(np.square(after - before).mean()))


def _pixels(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float64) / 255


def size_of(changes: Sequence[float]) -> float:
    """The median over the methods' changes of one image; a fixed size if there is none."""
    return sorted(changes)[len(changes) // 2] if changes else FIXED_SIZE
