"""Problems on tiny random Stable Diffusion pipelines, loaded as real ones are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from counterlens.core.classifiers.classifier import Classifier
from counterlens.core.classifiers.preprocessing import Preprocessing
from counterlens.core.models.pool import Key
from counterlens.core.problem.items import Item
from counterlens.core.problem.problem import Problem
from counterlens.core.problem.scene import Resources, Scene
from counterlens.core.testing.tiny import tiny
from counterlens.plugins.combiners.cfg import Cfg
from counterlens.plugins.families.stable_diffusion import StableDiffusion
from counterlens.plugins.inverters.direct import Direct

PIPELINES = {}


def pipeline_of(kind, folder):
    if kind not in PIPELINES:
        scheduler = DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
            set_alpha_to_one=False, steps_offset=1, prediction_type=kind,
        )  # fmt: skip
        pipeline = StableDiffusion.load(Key(str(tiny("stable-diffusion", folder, scheduler=scheduler))))
        for name, module in pipeline.unet.named_modules():  # a smooth network on which words have a say
            if name.endswith("attn2.to_v"):
                module.weight.data *= 30
            if name == "conv_out":
                module.weight.data *= 0.3
        PIPELINES[kind] = pipeline
    return PIPELINES[kind]


@pytest.fixture
def conditional_problem(tmp_path):
    """``conditional_problem(batch, steps, kind)``: guidance 3 under prompts, on a tiny Stable Diffusion."""

    def make(batch=2, steps=4, kind="epsilon", double=False, **pieces):
        pipeline = pipeline_of(kind, tmp_path / kind)
        g = torch.Generator().manual_seed(4)
        image = torch.rand(batch, 3, 16, 16, generator=g) * 2 - 1
        prompts = tuple(f"a picture of {word}" for word in ("cats", "a dog", "it")[:batch])
        with torch.no_grad():
            cond, extra = pipeline.condition(image, prompts, ("null", "text"))
            x0 = pipeline.encode(image)
        net = pipeline.network()
        if double:
            pipeline.unet.double()
            net, x0, cond = replace(net, dtype=torch.float64), x0.double(), {b: c.double() for b, c in cond.items()}
        else:
            pipeline.unet.float()
        head = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
        classifier = Classifier.of(head, Preprocessing(size=(16, 16), labels=("a", "b")), "python:x")
        scene = Scene(
            items=tuple(Item(f"{i}", np.zeros((16, 16, 3), np.uint8), f"{i}", "b") for i in range(batch)),
            image=image,
            x0=x0,
            cond=cond,
            extra=extra,
            source=torch.zeros(batch, dtype=torch.long),
            target=torch.ones(batch, dtype=torch.long),
            seeds=tuple(range(batch)),
            rows=tuple(range(batch)),
            grid=pipeline.grid(steps),
            net=net,
            resources=Resources(pipeline, classifier, {"prompts": prompts}),
            strength=torch.ones(batch),
        )
        return Problem(scene, **{"inverter": Direct(least=0), "combiner": Cfg(scale=3), **pieces})

    return make
