"""Estimates with intervals: bootstrap, paired tests, Pareto fronts."""
