"""The scripts that made the embedded weights."""
