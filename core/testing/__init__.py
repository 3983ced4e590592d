"""Tiny pipelines and pairs for tests, ours and plugins'."""
