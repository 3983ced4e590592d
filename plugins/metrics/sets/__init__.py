"""Metrics of sets of pictures."""
