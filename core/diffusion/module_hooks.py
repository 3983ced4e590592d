"""Hooks into networks for the length of a call: who listens, and who changes activations and attention."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from counterlens.core.diffusion.sites import Site
    from counterlens.core.diffusion.step import Step


@contextmanager
def captured(modules: Iterable[nn.Module], input: bool = False) -> Iterator[list[tuple[nn.Module, Any]]]:
    """Calls of these modules as (module, answer), or with ``input`` (module, first argument), in the order in which
    they end; the list grows while it is open."""
    calls: list[tuple[nn.Module, Any]] = []

    def note(module: nn.Module, args: Any, kwargs: dict[str, Any], answer: Any) -> None:
        calls.append((module, next(iter((*args, *kwargs.values()))) if input else answer))

    with ExitStack() as stack:
        for module in dict.fromkeys(modules):
            stack.callback(module.register_forward_hook(note, with_kwargs=True).remove)
        yield calls


@dataclass(eq=False)
class Listener:
    """An editor that changes nothing: ``heard`` is told what passes its sites, branch by branch, with the step."""

    heard: Callable[[Tensor, Step], None]
    sites: Any = ()
    attention_sites: Any = ()

    def on_activation(self, h: Tensor, step: Step) -> Tensor:
        self.heard(h, step)
        return h

    on_attention = on_activation


def fold(editors: Sequence[Any], hook: str, value: Any, step: Step) -> Any:
    """Pass ``value`` through every editor that has this hook, in the order written in the method."""
    for editor in editors:
        if (change := getattr(editor, hook, None)) is not None:
            value = change(value, step)
    return value


@contextmanager
def tapped(
    sites: Mapping[str, Site], attention: Mapping[str, nn.Module], editors: Sequence[Any], step: Step
) -> Iterator[None]:
    """Route the activations and attention that editors want through them, branch by branch, for one call."""
    steps = [replace(step, branch=branch) for branch in step.cond]
    with ExitStack() as stack:
        for name, site, wanting in _wanted(sites, editors, "sites", step):
            stack.callback(_hooked(site, wanting, [replace(one, site=name) for one in steps]).remove)
        for name, module, wanting in _wanted(attention, editors, "attention_sites", step):
            stack.enter_context(_attention(module, wanting, [replace(one, site=name) for one in steps]))
        yield


def _wanted(sites: Any, editors: Sequence[Any], attribute: str, step: Step) -> Iterator[tuple[str, Any, list[Any]]]:
    """The sites that any editor wants in this step, each with the editors that want it."""
    wants = [(editor, getattr(editor, attribute, ())) for editor in editors]
    names = [(editor, set(want(step) if callable(want) else want)) for editor, want in wants]
    for name in sites:
        if wanting := [editor for editor, own in names if name in own]:
            yield name, sites[name], wanting


def _hooked(site: Site, wanting: Sequence[Any], steps: Sequence[Step]) -> Any:
    """A hook that folds the activation of a site; the handle removes it."""

    def given(_module: nn.Module, _args: Any, h: Any) -> Any:
        if isinstance(h, Tensor):
            return _by_branch(wanting, "on_activation", h, steps)
        return (_by_branch(wanting, "on_activation", h[0], steps), *h[1:])

    def read(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        """A block takes its skip connections off the end of a tuple, its second argument."""
        named = "res_hidden_states_tuple" in kwargs
        skips = list(kwargs["res_hidden_states_tuple"] if named else args[1])
        at = -1 - (site.skip or 0)
        skips[at] = _by_branch(wanting, "on_activation", skips[at], steps)
        if named:
            return args, {**kwargs, "res_hidden_states_tuple": tuple(skips)}
        return (args[0], tuple(skips), *args[2:]), kwargs

    if site.skip is None:
        return site.module.register_forward_hook(given)
    return site.module.register_forward_pre_hook(read, with_kwargs=True)


def _by_branch(wanting: Sequence[Any], hook: str, value: Tensor, steps: Sequence[Step]) -> Tensor:
    """Fold each branch's share of the batch on its own; the network's dtype comes back."""
    parts = zip(value.chunk(len(steps)), steps, strict=True)
    return torch.cat([fold(wanting, hook, part, at) for part, at in parts]).to(value.dtype)


@contextmanager
def _attention(module: Any, wanting: Sequence[Any], steps: Sequence[Step]) -> Iterator[None]:
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
