"""What networks answer: the one tensor of scores in a tuple, mapping or object, and what its numbers are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from counterlens.core.errors import UsageError, unknown

KINDS = ("logits", "probabilities", "log-probabilities", "sigmoid")  # what ?outputs= may say
USUAL = ("logits", "logit", "scores", "out", "output", "outputs", "pred", "preds", "predictions", "probs")
TINY = 1e-7  # how near to 0 and 1 a probability is taken when it becomes a logit


def parts_of(answer: Any) -> dict[str, Any]:
    """The named parts of an answer that is more than a tensor; those of a tuple are named by their place."""
    if isinstance(answer, Mapping):
        return {str(key): value for key, value in answer.items()}
    if is_dataclass(answer) and not isinstance(answer, type):
        return {part.name: getattr(answer, part.name) for part in fields(answer)}
    if hasattr(answer, "_asdict"):
        return dict(answer._asdict())
    return {str(k): value for k, value in enumerate(answer)}


def scores_in(answer: Any, rows: int, width: int, wanted: str = "") -> Tensor:
    """The scores [rows, K] in what a network answered for ``rows`` images.

    ``wanted`` names a part. Otherwise it is the part with a usual name, or the only one that has ``width`` columns
    (one counts too where ``width`` is 2). UsageError that lists the parts when none or several fit.
    """
    if isinstance(answer, Tensor) or not _structured(answer):
        if wanted:
            raise UsageError(f"output={wanted}: it answers with one tensor, which has no parts; leave output out")
        return _flat(torch.as_tensor(answer), rows)
    parts = {name: _flat(value, rows) for name, value in _tensors(parts_of(answer))}
    if wanted:
        if wanted not in parts:
            raise unknown("output", wanted, parts)
        return parts[wanted]
    fit = [name for name, part in parts.items() if part.ndim == 2 and part.shape[1] in _widths(width)]
    exact = [name for name in fit if parts[name].shape[1] == width] or fit
    named = [name for name in USUAL if name in exact]
    if named or len(exact) == 1:
        return parts[(named or exact)[0]]
    shapes = ", ".join(f"{name} {list(part.shape)}" for name, part in parts.items()) or "no tensor"
    which = "several could be the scores" if exact else f"none has {width} columns"
    raise UsageError(f"it answers with {len(parts)} parts ({shapes}), {which}: say which are the scores, ?output=NAME")


def _structured(answer: Any) -> bool:
    """Whether it has parts; a list of numbers, as a service answers, is rows and no parts."""
    if isinstance(answer, Mapping) or is_dataclass(answer) or hasattr(answer, "_asdict"):
        return True
    return isinstance(answer, tuple | list) and any(isinstance(part, Tensor) and part.ndim > 0 for part in answer)


def _tensors(parts: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for name, value in parts.items():
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, tuple | list) and value and isinstance(value[0], Tensor):
            yield from ((f"{name}.{k}", part) for k, part in enumerate(value) if isinstance(part, Tensor))


def _widths(width: int) -> tuple[int, ...]:
    return (width, 1) if width == 2 else (width,)


def _flat(scores: Tensor, rows: int) -> Tensor:
    """[B,K,1,1] (a convolution as the head) and [B] (one score an image) as [B,K]."""
    if scores.ndim > 2 and scores.shape[0] == rows and scores[0].numel() == scores.shape[1]:
        return scores.flatten(1)
    return scores[:, None] if scores.ndim == 1 and len(scores) == rows else scores


def kind_of(scores: Tensor) -> str:
    """What the numbers [B,K] of several different images are: probabilities, log-probabilities, else logits.

    One picture's logits may sum to 1 by chance, those of several do not.
    """
    if len(scores) < 3 or scores.shape[1] < 2:
        return "logits"
    if bool((scores >= 0).all()) and bool((scores <= 1).all()) and _one(scores.sum(1)):
        return "probabilities"
    return "log-probabilities" if bool((scores <= 0).all()) and _one(scores.exp().sum(1)) else "logits"


def _one(sums: Tensor) -> bool:
    return bool((sums - 1).abs().max() < 2e-3)


def as_logits(scores: Tensor, kind: str, column: int | None = None) -> Tensor:
    """Scores [B,K] as logits [B,K] whose softmax are the probabilities; one score, or one ``column`` of independent
    ones, becomes the two logits [0, z] of its absence and presence."""
    if column is not None:
        scores = scores[:, column : column + 1]
    if scores.shape[1] == 1:
        z = scores
        if kind in ("probabilities", "log-probabilities"):
            p = (scores if kind == "probabilities" else scores.exp()).clamp(TINY, 1 - TINY)
            z = p.log() - (-p).log1p()
        return torch.cat([torch.zeros_like(z), z], 1)
    return scores.clamp_min(1e-12).log() if kind == "probabilities" else scores


def probe_images(size: tuple[int, int]) -> Tensor:
    """Four different pictures [4,3,h,w] in [0,1]: grey, two of noise, and a ramp of colours."""
    noise = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    ramp = torch.linspace(0, 1, size[1]).expand(3, *size) * torch.tensor([1.0, 0.5, 0.2]).view(3, 1, 1)
    return torch.cat([torch.full((1, 3, *size), 0.5), noise, ramp[None]])
