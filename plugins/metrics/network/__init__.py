"""Metrics that ask another network."""
