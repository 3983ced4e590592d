"""Training of the classifiers, the judge and the factor regressor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from counterlens.core.training.augment import attacked
from counterlens.core.training.fit import DEFAULT, Fit, Setup, write_json
from counterlens.plugins.embedded.content import data
from counterlens.plugins.embedded.content.nets import ARCHITECTURES, save_net


@dataclass(frozen=True)
class NetRecipe:
    architecture: str
    width: int
    split: str
    steps: int
    lr: float = 2e-3
    noise: float = 0.03  # a classifier without it has gradients that no picture would follow
    attack: float = 0.0  # largest perturbation of a pixel that it is trained to withstand, in [0,1]


# The explained classifiers are trained against small perturbations: guided by the gradient of one that is not, a method
# finds noise that flips it and that neither the judge nor a person sees. The shortcut's classifier stops early: colour
# is learned long before the outline is.
RECIPES: dict[tuple[str, str], NetRecipe] = {
    ("shapes", "classifier"): NetRecipe("plain", 16, "train", 1900, attack=0.05),
    ("shapes", "judge"): NetRecipe("pool", 16, "train-judge", 1500),
    ("shapes", "shortcut"): NetRecipe(architecture="plain", width=16, split="train-shortcut", steps=60, lr=6e-4),
    ("shapes", "regressor"): NetRecipe("plain", 32, "train", 2500, noise=0.01),
    ("digits", "classifier"): NetRecipe("plain", 16, "train", 800, attack=0.15),
    ("digits", "judge"): NetRecipe("pool", 16, "train-judge", 800),
}


def loss_function(domain: str, part: str, recipe: NetRecipe) -> Callable[[nn.Module], Tensor]:
    images, labels, drawn = data.load(domain, recipe.split)
    targets = data.factor_targets(drawn) if part == "regressor" and drawn else labels

    def loss_of(net: nn.Module) -> Tensor:
        rows = torch.randint(len(images), (128,))
        x = images[rows]
        if domain == "digits":
            x = data.jitter(x, degrees=12, shift=0.05, scale=0.1)
        x = x + recipe.noise * torch.randn_like(x)
        device = next(net.parameters()).device
        x, wanted = x.to(device), targets[rows].to(device)
        if recipe.attack:
            x = attacked(net, x, wanted, recipe.attack)
        out = net(x).float()
        if part == "regressor":
            return (out - wanted).square().mean()
        return nn.functional.cross_entropy(out, wanted, label_smoothing=0.02)

    return loss_of


def train_net(domain: str, part: str, work: Path, out: Path, steps: int | None = None, setup: Setup = DEFAULT) -> None:
    """Train one net and write ``out/nets/PART.safetensors`` and its record."""
    recipe = RECIPES[domain, part]
    torch.manual_seed(setup.seed)
    labels = data.TARGETS if part == "regressor" else data.classes(domain)
    net = ARCHITECTURES[recipe.architecture](len(labels), recipe.width)
    fit = Fit(net, work / part, steps or recipe.steps, recipe.lr, setup, decay=0.99)
    record = fit.run(loss_function(domain, part, recipe), f"{domain} {part}")
    # the averaged weights need batch statistics of their own, the same ones after a run that only had these left
    torch.manual_seed(setup.seed)
    refresh_statistics(net, data.load(domain, recipe.split)[0], recipe.noise)
    save_net(out / "nets" / f"{part}.safetensors", net, recipe.architecture, recipe.width, labels)
    write_json(out / "nets" / f"{part}.json", record)


@torch.no_grad()
def refresh_statistics(net: nn.Module, images: Tensor, noise: float) -> None:
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    net.train()
    for batch in images[:4096].split(256):
        net((batch + noise * torch.randn_like(batch)).to(next(net.parameters()).device))
    net.eval()
