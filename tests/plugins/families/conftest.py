"""Tiny pipelines of every family, saved once a session and loaded as users' pipelines are."""

import warnings

import pytest
import torch

from counterlens.core.models.pool import Key
from counterlens.core.plugin.registry import load_registry
from counterlens.core.testing.tiny import tiny

REGISTRY = load_registry(third_party=False)
FAMILIES = ("stable-diffusion", "sdxl", "kandinsky22", "deepfloyd-if", "ddpm", "ldm")
PROMPTS = ("a red disc", "two cats, one dog and a very small mouse")


class World:
    """``folder(family, **options)`` and ``load(family, **options)``, each made once."""

    def __init__(self, root):
        self.root, self.folders, self.loaded = root, {}, {}

    def folder(self, family, label="", **options):
        name = f"{family}{label}"
        if name not in self.folders:
            self.folders[name] = tiny(family, self.root / name, **options)
        return self.folders[name]

    def load(self, family, label="", **options):
        name = f"{family}{label}"
        if name not in self.loaded:
            self.loaded[name] = open_pipeline(family, self.folder(family, label, **options))
        return self.loaded[name]


def open_pipeline(family, folder, **key):
    return REGISTRY.family(family).load(Key(str(folder), **key))


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def draw():
    """Random tensors, the same in every test."""
    generator = torch.Generator().manual_seed(3)
    return lambda *shape: torch.randn(*shape, generator=generator)


def stock(folder):
    """The same folder as diffusers itself loads it."""
    from diffusers import DiffusionPipeline

    from counterlens.core.models.loading import quiet

    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(name="stock")
def stock_fixture():
    return stock


@pytest.fixture(name="open_pipeline")
def open_fixture():
    return open_pipeline
