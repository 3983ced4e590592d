"""What single units of a classifier say: layers by name, and their activations [B,U], differentiable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from counterlens.core.errors import PlanError, UsageError, unknown

if TYPE_CHECKING:
    from torch import Tensor, nn

    from counterlens.core.classifiers.classifier import Classifier

PENULTIMATE = "penultimate"  # what enters the last linear layer that is called: the features that classes are made of


def layers(classifier: Classifier) -> dict[str, nn.Module]:
    """The layers of a classifier by name, without containers of others' outputs; a network's own name comes first
    where there are several networks. PlanError for a black box."""
    if not classifier.modules:
        raise PlanError(f"{classifier.uri} is a black box: it has no layers to look into")
    several = len(classifier.modules) > 1
    return {
        f"{owner}.{name}" if several else name: module
        for owner, net in classifier.modules.items()
        for name, module in net.named_modules()
        if name
    }


def unit_activations(classifier: Classifier, images: Tensor, layer: str = PENULTIMATE) -> tuple[Tensor, Tensor]:
    """(logits [B,K], activations [B,U]) of images [B,3,H,W] in [0,1], in one pass.

    A unit is a channel of the layer's output, averaged over places (or tokens). UsageError with the list of layers
    for an unknown one, or one that is not called or answers something else than a row an image.
    """
    from counterlens.core.diffusion.module_hooks import captured

    known = layers(classifier)
    if layer != PENULTIMATE and layer not in known:
        raise unknown("layer", layer, [PENULTIMATE, *known])
    linear = layer == PENULTIMATE
    with captured(_linear(known) if linear else [known[layer]], input=linear) as calls:
        logits = classifier.logits(images)
    answers = (value[0] if isinstance(value, (tuple, list)) else value for _, value in calls)
    heard = [value for value in answers if hasattr(value, "ndim")]
    if not heard or len(heard[-1]) != len(images) or heard[-1].ndim < 2:
        names = ", ".join([PENULTIMATE, *known])
        raise UsageError(f"layer {layer!r} of {classifier.uri} gives no row an image; others: {names}")
    return logits, units(heard[-1])


def units(h: Tensor) -> Tensor:
    """[B,U] float32 of [B,U], of a map [B,U,h,w] or of tokens [B,T,U]."""
    h = h.float()
    return h.flatten(2).mean(2) if h.ndim >= 4 else h.mean(1) if h.ndim == 3 else h


def check_unit(classifier: Classifier, layer: str, unit: int) -> None:
    """UsageError when the layer or the unit does not exist; asks the classifier once about a grey picture."""
    import torch

    size = classifier.contract.size or (64, 64)
    with torch.no_grad():
        grey = torch.full((1, 3, *size), 0.5, device=classifier.device)
        count = unit_activations(classifier, grey, layer)[1].shape[1]
    if not 0 <= unit < count:
        raise UsageError(f"layer {layer!r} of {classifier.uri} has units 0 to {count - 1}, not {unit}")


def _linear(known: dict[str, nn.Module]) -> list[nn.Module]:
    from torch import nn

    return [module for module in known.values() if isinstance(module, nn.Linear)]
