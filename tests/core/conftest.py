"""A tiny random network with two branches, for tests of the loop."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from counterlens.core.levels import dynamics_of, grid_of
from counterlens.core.network import Network
from counterlens.core.sites import activation_sites, attention_sites


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
