"""counterlens: why did the classifier decide so? Visual counterfactuals with diffusion models."""

__version__ = "0.1.0"
