"""What exists: hooks, registry, descriptions."""
