"""The public checkpoints' configurations, on the meta device: parameter counts, sizes, sites, one call's shapes."""

import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel, UNet2DModel, VQModel

from counterlens.plugins.families.pipelines.ddpm import DdpmLoaded, LdmLoaded
from counterlens.plugins.families.pipelines.deepfloyd_if import DeepFloydIfLoaded
from counterlens.plugins.families.pipelines.kandinsky22 import Kandinsky22Loaded
from counterlens.plugins.families.pipelines.sdxl import SdxlLoaded
from counterlens.plugins.families.pipelines.stable_diffusion import StableDiffusionLoaded

SD15 = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
SD21 = {
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
SDXL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
ADDED = {
    "sample_size": 64,
    "layers_per_block": 3,
    "down_block_types": ("ResnetDownsampleBlock2D", *("SimpleCrossAttnDownBlock2D",) * 3),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": (*("SimpleCrossAttnUpBlock2D",) * 3, "ResnetUpsampleBlock2D"),
    "resnet_time_scale_shift": "scale_shift",
    "attention_head_dim": 64,
}
KANDINSKY = {
    **ADDED,
    "out_channels": 8,
    "block_out_channels": (384, 768, 1152, 1536),
    "cross_attention_dim": 768,
    "encoder_hid_dim": 1280,
    "encoder_hid_dim_type": "image_proj",
    "addition_embed_type": "image",
}
IF_XL = {
    **ADDED,
    "in_channels": 3,
    "out_channels": 6,
    "block_out_channels": (704, 1408, 2112, 2816),
    "cross_attention_dim": 2816,
    "encoder_hid_dim": 4096,
    "encoder_hid_dim_type": "text_proj",
    "addition_embed_type": "text",
    "cross_attention_norm": "group_norm",
    "act_fn": "gelu",
    "resnet_skip_time_act": True,
}
CELEBA = {  # google/ddpm-celebahq-256
    "sample_size": 256,
    "block_out_channels": (128, 128, 256, 256, 512, 512),
    "down_block_types": (*("DownBlock2D",) * 4, "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", *("UpBlock2D",) * 4),
    "attention_head_dim": None,
    "downsample_padding": 0,
}
LDM = {"sample_size": 64, "attention_head_dim": 32}  # CompVis/ldm-celebahq-256; the class's own defaults

CODEC = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
MOVQ = {
    **CODEC,
    "block_out_channels": (128, 256, 256, 512),
    "down_block_types": (*("DownEncoderBlock2D",) * 3, "AttnDownEncoderBlock2D"),
    "up_block_types": ("AttnUpDecoderBlock2D", *("UpDecoderBlock2D",) * 3),
    "num_vq_embeddings": 16384,
    "vq_embed_dim": 4,
    "norm_type": "spatial",
}
VQ = {
    **CODEC,
    "block_out_channels": (128, 256, 512),
    "latent_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "num_vq_embeddings": 8192,
    "vq_embed_dim": 3,
}

# family, U-Net, its billions of parameters, autoencoder, image side, condition's shape
CASES = {
    "sd-1.5": (StableDiffusionLoaded, UNet2DConditionModel, SD15, 0.860, (AutoencoderKL, CODEC), 512, (77, 768)),
    "sd-2.1": (StableDiffusionLoaded, UNet2DConditionModel, SD21, 0.866, (AutoencoderKL, CODEC), 768, (77, 1024)),
    "sdxl": (SdxlLoaded, UNet2DConditionModel, SDXL, 2.567, (AutoencoderKL, CODEC), 1024, (77, 2048)),
    "kandinsky-2.2": (Kandinsky22Loaded, UNet2DConditionModel, KANDINSKY, 1.25, (VQModel, MOVQ), 512, (1280,)),
    "if-i-xl": (DeepFloydIfLoaded, UNet2DConditionModel, IF_XL, 4.3, None, 64, (77, 4096)),
    "ddpm-celebahq": (DdpmLoaded, UNet2DModel, CELEBA, 0.1137, None, 256, (0,)),
    "ldm-celebahq": (LdmLoaded, UNet2DModel, LDM, 0.274, (VQModel, VQ), 256, (0,)),
}


def make(case):
    family, unet, config, _, codec, *_ = CASES[case]
    with torch.device("meta"):
        modules = {"unet": unet(**config)}
        if codec:
            modules[family.codec] = codec[0](**codec[1])
    return family(modules, DDPMScheduler(), device="meta")


@pytest.mark.parametrize("case", CASES)
def test_instantiates_with_the_known_size_and_answers(case):
    *_, billions, _, side, condition = CASES[case]
    pipeline = make(case)
    count = sum(p.numel() for p in pipeline.unet.parameters())
    print(f"{case}: {count:,}")
    assert count / 1e9 == pytest.approx(billions, rel=0.01)
    assert pipeline.size == (side, side)
    net = pipeline.network()
    assert {"mid.before", "mid.middle", "mid.after"} <= set(net.sites)
    assert len(net.attention) > 2
    h = side // getattr(pipeline, "factor", 1)
    x = torch.empty(1, pipeline.channels, h, h, device="meta")
    extra = {}
    if case == "sdxl":
        extra = {"text_embeds": torch.empty(1, 1280, device="meta"), "time_ids": torch.empty(1, 6, device="meta")}
    cond = torch.empty(1, *condition, device="meta")
    with torch.no_grad():
        out = pipeline.predict(x, torch.zeros(1, device="meta"), cond, extra)
    learned = case in ("kandinsky-2.2", "if-i-xl")
    assert out.shape == (1, pipeline.channels * (2 if learned else 1), h, h)
    if hasattr(pipeline, "factor"):
        assert pipeline.decode(x).shape == (1, 3, side, side)
