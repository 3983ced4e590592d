"""Diffusion pipelines: families, loading, pool."""
