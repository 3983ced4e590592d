"""Hooks into a network for the length of one call: activations and attention probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from counterlens.core.network import Network, Step


def fold(editors: Sequence[Any], hook: str, value: Any, step: Step) -> Any:
    """Pass ``value`` through every editor that has this hook, in the order written in the method."""
    for editor in editors:
        if (change := getattr(editor, hook, None)) is not None:
            value = change(value, step)
    return value


@contextmanager
def tapped(net: Network, editors: Sequence[Any], step: Step) -> Iterator[None]:
    """Route the activations and attention that editors want through them, branch by branch, for one call."""
    steps = [replace(step, branch=branch) for branch in step.cond]
    with ExitStack() as stack:
        for site, module in _wanted(net.sites, editors, "sites"):
            wanting = [e for e in editors if site in getattr(e, "sites", ())]
            stack.callback(module.register_forward_hook(_activation(wanting, site, steps)).remove)
        for site, module in _wanted(net.attention, editors, "attention_sites"):
            wanting = [e for e in editors if site in getattr(e, "attention_sites", ())]
            stack.enter_context(_attention(module, wanting, site, steps))
        yield


def _wanted(sites: Any, editors: Sequence[Any], attribute: str) -> list[tuple[str, nn.Module]]:
    names = {name for editor in editors for name in getattr(editor, attribute, ())}
    return [(name, sites[name]) for name in sites if name in names]


def _activation(wanting: Sequence[Any], site: str, steps: Sequence[Step]) -> Callable[..., Tensor]:
    def hook(_module: nn.Module, _args: Any, h: Any) -> Any:
        tensor = h if isinstance(h, Tensor) else h[0]
        parts = [
            fold(wanting, "on_activation", part, at) for part, at in zip(tensor.chunk(len(steps)), steps, strict=True)
        ]
        new = torch.cat(parts).to(tensor.dtype)
        return new if isinstance(h, Tensor) else (new, *h[1:])

    return hook


def _by_branch(wanting: Sequence[Any], hook: str, value: Tensor, steps: Sequence[Step]) -> Tensor:
    """Fold each branch's share of the batch on its own; the network's dtype comes back."""
    parts = zip(value.chunk(len(steps)), steps, strict=True)
    return torch.cat([fold(wanting, hook, part, at) for part, at in parts]).to(value.dtype)


@contextmanager
def _attention(module: Any, wanting: Sequence[Any], site: str, steps: Sequence[Step]) -> Iterator[None]:
    """Let the classic processor compute explicit probabilities, and fold them: [B,heads,q,k] a branch."""
    from diffusers.models.attention_processor import AttnAddedKVProcessor, AttnProcessor

    scores, processor = module.get_attention_scores, module.processor

    def folded(*args: Any, **kwargs: Any) -> Tensor:
        p = scores(*args, **kwargs)  # [N·heads,q,k]
        heads = p.unflatten(0, (-1, module.heads))
        parts = [
            fold(wanting, "on_attention", part, at) for part, at in zip(heads.chunk(len(steps)), steps, strict=True)
        ]
        return torch.cat(parts).flatten(0, 1).to(p.dtype)

    module.processor = AttnAddedKVProcessor() if "AddedKV" in type(processor).__name__ else AttnProcessor()
    module.get_attention_scores = folded  # an instance attribute, deleted below
    try:
        yield
    finally:
        module.processor = processor
        del module.get_attention_scores
