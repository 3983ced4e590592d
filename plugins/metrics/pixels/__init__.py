"""Metrics that are arithmetic on pixels."""
