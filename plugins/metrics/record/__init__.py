"""Metrics read off a record."""
