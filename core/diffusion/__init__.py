"""Noise levels, networks and the loop. Knows no image, no classifier, no file."""
