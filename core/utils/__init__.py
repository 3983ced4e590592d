"""Whole files, digests, URIs, tensors on disk."""
