"""One classifier's training: images in memory, a class-balanced loss, the best epoch kept, a temperature at the end."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from counterlens.core.training.augment import attacked, jitter

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, eq=False)
class Part:
    """Images uint8 [N,3,S,S] with their class indices [N]."""

    images: Tensor
    labels: Tensor

    def take(self, rows: Tensor) -> Part:
        return Part(self.images[rows], self.labels[rows])


@dataclass(frozen=True)
class ClassifierRecipe:
    """``epochs`` at most; stopped when the validation loss has not improved for ``patience`` of them."""

    epochs: int = 10
    patience: int = 5
    lr: float = 1e-3
    batch: int = 32
    flip: bool = False
    jitter: float = 0.2
    attack: float = 0.0
    device: str = "cpu"
    seed: int = 0


def normalised(images: Tensor) -> Tensor:
    """Images [N,3,S,S] in [0,1] as ImageNet's networks expect it."""
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in IMAGENET)
    return (images - mean) / std


def balance(labels: Tensor, classes: int) -> Tensor:
    """Weights [classes] with which every class counts alike, however many images it has."""
    counts = torch.bincount(labels, minlength=classes).float()
    return len(labels) / (classes * counts.clamp_min(1))


def fit(
    net: nn.Module, train: Part, held: Part, classes: int, recipe: ClassifierRecipe, tick: Callable[[int, int], None]
) -> dict:
    """Train ``net`` in place and leave the best epoch's weights in it; returns the losses of that epoch."""
    torch.manual_seed(recipe.seed)
    net.to(recipe.device)
    weight = balance(train.labels, classes).to(recipe.device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs, recipe.lr / 50)
    best, best_state, waited = float("inf"), copy.deepcopy(net.state_dict()), 0
    record: dict = {}
    for epoch in range(recipe.epochs):
        loss = _epoch(net, train, weight, optimizer, recipe)
        schedule.step()
        held_loss = float(cross_entropy(logits_of(net, held, recipe), held.labels.to(recipe.device), weight))
        tick(epoch + 1, recipe.epochs)
        if held_loss < best:
            best, best_state, waited = held_loss, copy.deepcopy(net.state_dict()), 0
            record = {"epoch": epoch + 1, "loss": round(loss, 4), "held_out_loss": round(held_loss, 4)}
        elif (waited := waited + 1) >= recipe.patience:
            break
    net.load_state_dict(best_state)
    return record


def _epoch(
    net: nn.Module, train: Part, weight: Tensor, optimizer: torch.optim.Optimizer, recipe: ClassifierRecipe
) -> float:
    net.train()
    total = 0.0
    order = torch.randperm(len(train.labels))
    for rows in order.split(recipe.batch):
        if len(rows) < 2 and len(order) > 1:
            continue  # batch norm has no statistics of one image
        part = train.take(rows)
        x, labels = moved(part.images.to(recipe.device).float() / 255, recipe), part.labels.to(recipe.device)
        if recipe.attack:
            x = attacked(lambda x: net(normalised(x)), x, labels, recipe.attack)
        loss = cross_entropy(net(normalised(x)), labels, weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        total += float(loss.detach()) * len(rows)
    net.eval()
    return total / len(order)


def moved(x: Tensor, recipe: ClassifierRecipe) -> Tensor:
    """Images in [0,1], each zoomed by up to ``jitter``, and by less turned, shifted and made lighter or darker;
    mirrored if ``flip`` says that mirrored images are of the class."""
    if recipe.flip:
        x = torch.where((torch.rand(len(x), device=x.device) < 0.5).view(-1, 1, 1, 1), x.flip(-1), x)
    if not recipe.jitter:
        return x
    light = 1 + recipe.jitter * (torch.rand(len(x), 1, 1, 1, device=x.device) * 2 - 1)
    return (jitter(x, 40 * recipe.jitter, recipe.jitter / 3, recipe.jitter) * light).clamp(0, 1)


@torch.no_grad()
def logits_of(net: nn.Module, part: Part, recipe: ClassifierRecipe) -> Tensor:
    """[N,K] in evaluation mode."""
    net.eval()
    return torch.cat(
        [net(normalised(images.to(recipe.device).float() / 255)).float() for images in part.images.split(64)]
    )


def temperature(logits: Tensor, labels: Tensor) -> float:
    """The T that makes ``softmax(logits / T)`` likeliest on held-out images (Guo et al. 2017).

    Not below one quarter: a few held-out images without an error would ask for zero.
    """
    grid = torch.logspace(-0.6, 1.3, 191)
    losses = torch.stack([cross_entropy(logits / t, labels) for t in grid])
    return float(grid[losses.argmin()])


def calibration_error(p: Tensor, labels: Tensor, bins: int = 10) -> float:
    """Expected calibration error of probabilities [N,K]: mean gap between confidence and accuracy over bins."""
    from torchmetrics.functional.classification import multiclass_calibration_error

    return float(multiclass_calibration_error(p, labels, p.shape[1], n_bins=bins))


def divide(net: nn.Module, t: float) -> None:
    """Put a temperature into the last linear layer, so that the weights alone are the calibrated classifier."""
    last = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        last.weight.div_(t)
        if last.bias is not None:
            last.bias.div_(t)


def auc(p: Tensor, labels: Tensor) -> float | None:
    """Area under the ROC curve of probabilities [N,K]; of more than two classes the mean of one against the rest.

    None where a class has no image.
    """
    from sklearn.metrics import roc_auc_score

    if len(labels.unique()) < p.shape[1]:
        return None
    one = [roc_auc_score((labels == k).numpy(), p[:, k].double().numpy()) for k in range(p.shape[1])]
    return round(float(sum(one) / len(one)), 4)
