"""How fast the loop and the solvers are."""
