"""The embedded domains: images, networks, weights."""
