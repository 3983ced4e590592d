"""Labelled images: sources, selection, parts, domains."""
