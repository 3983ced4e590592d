"""Linear algebra of maps that are known by their products only."""
