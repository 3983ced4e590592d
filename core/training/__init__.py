"""Training of whole pipelines from scratch: networks, losses, the training loop, and diffusers' layout on the disk."""
