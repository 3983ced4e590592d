"""How networks are fitted to labelled images."""
