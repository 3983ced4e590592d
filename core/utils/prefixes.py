"""Names of weights as wrappers leave them: ``module.`` of DataParallel, ``_orig_mod.`` of torch.compile, and others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from counterlens.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

WRAPPERS = {
    "module.": "DataParallel",
    "_orig_mod.": "torch.compile",
    "model.": "Lightning",
    "ema.": "a moving average",
}


def without_prefix(
    tensors: dict[str, Tensor], expected: Mapping[str, Tensor], path: str | Path, wanted: str = ""
) -> tuple[dict[str, Tensor], str]:
    """The tensors under the network's own names, and the prefix that was in front of them.

    A wrapper puts a prefix before every name and may keep other things beside (a loss with weights, an average of
    the weights); these are left out. The tensors come back as they are when no prefix makes them whole. UsageError
    when several prefixes do (weights and their average), unless one is ``wanted``.
    """
    needed = [key for key in expected if not key.endswith("num_batches_tracked")]
    if not needed or (not wanted and all(key in tensors for key in needed)):
        return tensors, ""
    longest = max(needed, key=len)
    found = [key.removesuffix(longest) for key in tensors if key.endswith(f".{longest}")]
    whole = [prefix for prefix in found if all(prefix + key in tensors for key in needed)]
    if wanted:
        wanted = wanted if wanted.endswith(".") else f"{wanted}."
        if wanted not in whole:
            raise UsageError(f"{path} has no whole network under {wanted!r}, only {_listed(tensors, whole)}")
        whole = [wanted]
    if len(whole) > 1:
        named = " and ".join(repr(prefix) for prefix in sorted(whole)[:4])
        raise UsageError(f"{path} holds the network {len(whole)} times, under {named}: say which, ?prefix={whole[0]}")
    if not whole:
        return tensors, ""
    prefix = whole[0]
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}, prefix


def _listed(tensors: Mapping[str, Tensor], whole: list[str]) -> str:
    return ", ".join(map(repr, whole)) or ", ".join(sorted({key.partition(".")[0] for key in tensors})[:5])


def wrapper_of(prefix: str) -> str:
    """Who writes names with such a prefix, in words; the prefix itself where nobody is known."""
    return next((f"{prefix} ({who})" for start, who in WRAPPERS.items() if prefix.startswith(start)), prefix)
