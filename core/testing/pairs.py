"""Pairs of pictures for tests of metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.metrics.metric import CounterfactualPair


def grey(value: float, size: int = 4) -> Tensor:
    """A picture [3,size,size] of one brightness."""
    import torch

    return torch.full((3, size, size), float(value))


def pair(
    source: Tensor | None = None, edited: Tensor | None = None, digest: str = "a", **rest: Any
) -> CounterfactualPair:
    """A pair for tests of metrics: black turned into ``edited``, decided ``x`` before and ``y``, the target, after.

    ``rest``: fields of Pair (``truth``, ``region``, ``others``, ``factors``), ``own`` (the source's class), else of the
    record.
    """
    from counterlens.core.metrics.metric import CounterfactualPair

    fields = {key: rest.pop(key) for key in ("truth", "region", "others", "factors") if key in rest}
    own = rest.pop("own", "x")
    record = {"digest": digest, "image": digest, "source": own, "target": "y", "flipped": True, "failure": None, **rest}
    return CounterfactualPair(record, grey(0) if source is None else source, edited, **fields)


def failed_pair(digest: str = "f", **rest: Any) -> CounterfactualPair:
    """The pair of an item that failed."""
    return pair(digest=digest, **{"flipped": False, "failure": "it broke", **rest})
