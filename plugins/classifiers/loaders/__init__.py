"""How published classifiers are read: weights of wrappers, image processors, programs."""
