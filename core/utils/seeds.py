"""Where randomness comes from: every stream of numbers has a seed of its own, made of what it is for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def key(*parts: Any) -> int:
    """63 bits for one stream of random numbers, such as of (user's seed, sample, use)."""
    text = ":".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: Any) -> torch.Generator:
    """Torch's generator (on the CPU) of a stream: of one number as it is, of several parts by their key."""
    import torch

    seed = parts[0] % 2**63 if len(parts) == 1 else key(*parts)
    return torch.Generator().manual_seed(seed)
