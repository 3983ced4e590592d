"""What of a record is the result, and what is the circumstance: results have a hash, circumstances do not count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from counterlens.core.digest import digest

# Who, where, how fast, and what happened to be in the cache.
VOLATILE = frozenset(
    {"seconds", "seconds_reused", "unet_evaluations_reused", "peak_bytes", "counterfactual", "rows", "hash"}
)


def record_hash(record: Mapping[str, Any]) -> str:
    """The hash of a record's result: the same on any worker, engine and order (on one type of device)."""
    return digest({key: value for key, value in record.items() if key not in VOLATILE})
