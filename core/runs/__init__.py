"""A run's folder: records, pictures, report."""
