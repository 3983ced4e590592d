"""A tiny random network with two branches, for tests of the loop."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel, UNet2DModel

from counterlens.core.classifiers.classifier import Classifier
from counterlens.core.classifiers.preprocessing import Preprocessing
from counterlens.core.diffusion.network import Network
from counterlens.core.diffusion.schedulers import dynamics_of, grid_of
from counterlens.core.diffusion.sites import activation_sites, attention_sites
from counterlens.core.models.pipeline import Pipeline
from counterlens.core.problem.items import Item
from counterlens.core.problem.problem import Problem
from counterlens.core.problem.scene import Resources, Scene
from counterlens.plugins.combiners.cfg import Cfg
from counterlens.plugins.inverters.edit_friendly import EditFriendly


def unet():
    torch.manual_seed(0)
    return (
        UNet2DConditionModel(
            block_out_channels=(4, 8),
            layers_per_block=1,
            sample_size=8,
            in_channels=4,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=4,
            norm_num_groups=2,
        )
        .eval()
        .requires_grad_(False)
    )


def scheduler(kind="epsilon", **options):
    base = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    return DDIMScheduler(**{**base, "set_alpha_to_one": False, "steps_offset": 1, "prediction_type": kind, **options})


def network(kind="epsilon", checkpointed=False):
    u, s = unet(), scheduler(kind)

    def predict(x, t, cond, extra):
        return u(x, t, encoder_hidden_states=cond).sample

    return Network(predict, dynamics_of(s), 4, activation_sites(u), attention_sites(u), checkpointed=checkpointed), u, s


def build(batch=2, steps=6, **options):
    """A network, its grid, and random tensors for a batch."""
    net, u, s = network(**options)
    g = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(*shape, generator=g)

    cond = {"null": draw(batch, 5, 8), "text": draw(batch, 5, 8)}
    return SimpleNamespace(
        net=net, unet=u, scheduler=s, grid=grid_of(s, steps), x=draw(batch, 4, 8, 8), cond=cond, draw=draw
    )


@pytest.fixture
def world():
    """``world(batch, steps, kind=…, checkpointed=…)``: a tiny network, its grid, and random tensors."""
    return build


class Plain(Pipeline):
    """The smallest pipeline a plugin could bring: an unconditional pixel U-Net, images are their own latents."""

    family = "plain"
    size = (8, 8)
    channels = 3

    def encode(self, image):
        return image

    def decode(self, x0):
        return x0

    def predict(self, x, t, cond, extra):
        return self.unet(x, t).sample


def plain():
    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=8,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    return Plain({"unet": net.eval().requires_grad_(False)}, scheduler(set_alpha_to_one=True, steps_offset=0))


def classifier():
    """Is the left half brighter than the right? A linear classifier whose gradient is known."""
    head = torch.nn.Linear(3 * 8 * 8, 2)
    weight = torch.zeros(2, 3, 8, 8)
    weight[0, :, :, :4], weight[0, :, :, 4:] = 1.0, -1.0
    head.load_state_dict({"weight": weight.flatten(1) / 8, "bias": torch.zeros(2)})
    module = torch.nn.Sequential(torch.nn.Flatten(), head)
    contract = Preprocessing(size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3, labels=("left", "right"))
    return Classifier.of(module, contract, "python:test")


def problem_of(batch=3, steps=8, rows=None, **pieces):
    """A problem of the plain pipeline: images of which every other one is brighter on the left."""
    pipeline, g = plain(), torch.Generator().manual_seed(5)
    image = torch.rand(batch, 3, 8, 8, generator=g) - 0.5
    image[0::2, :, :, :4] += 0.3
    image[1::2, :, :, 4:] += 0.3
    items = tuple(Item(f"{i}", np.zeros((8, 8, 3), np.uint8), f"{i}", "right") for i in range(batch))
    scene = Scene(
        items=items,
        image=image,
        x0=image,
        cond={"free": image.new_zeros(batch, 0)},
        extra={},
        source=torch.arange(batch) % 2,
        target=1 - torch.arange(batch) % 2,
        seeds=tuple(range(10, 10 + batch)),
        rows=tuple(range(batch)),
        grid=pipeline.grid(steps),
        net=pipeline.network(),
        resources=Resources(pipeline, classifier()),
        strength=torch.ones(batch),
    )
    scene = scene if rows is None else scene.take(rows)
    return Problem(scene, **{"inverter": EditFriendly(), "combiner": Cfg(), **pieces})


@pytest.fixture
def problem():
    """``problem(batch, steps, rows, inverter=…, editors=…, guidance=…, …)`` on a tiny random pipeline."""
    return problem_of
