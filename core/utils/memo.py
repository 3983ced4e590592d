"""What is made once and kept under a key."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Made = TypeVar("Made")


class Memo(dict[Hashable, Any]):
    """A dictionary that makes what it lacks."""

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What is kept under ``key``; ``make()``, and kept, the first time."""
        if key not in self:
            self[key] = make()
        found: Made = self[key]
        return found
