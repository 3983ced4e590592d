"""How a method spends its evaluations."""
