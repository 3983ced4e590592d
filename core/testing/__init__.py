"""Tiny pipelines and pairs for tests, ours and plugins'."""

from counterlens.core.testing.pairs import failed_pair, grey, pair
from counterlens.core.testing.tiny import tiny

__all__ = ["failed_pair", "grey", "pair", "tiny"]
