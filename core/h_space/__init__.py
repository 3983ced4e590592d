"""Directions in a U-Net's activations."""
