"""Memory of ``descent`` on Stable Diffusion 1.5 at 512 px, planned on the meta device: nothing is allocated."""

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel

GB = 1e9


class Fused(torch.autograd.Function):
    """What fused attention keeps for going backward: its inputs, its answer, and one number a query."""

    @staticmethod
    def forward(ctx, q, k, v):
        out = torch.empty(*q.shape[:-1], v.shape[-1], device=q.device, dtype=q.dtype)
        ctx.save_for_backward(q, k, v, out, torch.empty(q.shape[:-1], device=q.device))
        return out

    @staticmethod
    def backward(ctx, g):
        q, k, v, *_ = ctx.saved_tensors
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


@pytest.fixture
def fused(monkeypatch):
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, **_: Fused.apply(q, k, v))


def kept(call, *modules):
    """Bytes that autograd keeps of one call, without the modules' own weights."""
    own = {p.untyped_storage()._cdata for m in modules for p in m.parameters()}
    found = {}

    def pack(t):
        if t.untyped_storage()._cdata not in own:
            found[t.untyped_storage()._cdata] = (t.untyped_storage().nbytes(), t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = call()
    del out
    return sum(size for size, _ in found.values())


def bytes_of(module):
    return sum(p.numel() * p.element_size() for p in module.parameters())


def test_descent_at_20_steps_and_512_pixels_stays_below_12_gb(fused):
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
        unet, vae = (m.half().eval().requires_grad_(False) for m in (unet, vae))
        x, c = torch.empty(2, 4, 64, 64).half().requires_grad_(), torch.empty(2, 77, 768).half().requires_grad_()
        z = torch.empty(1, 4, 64, 64).half().requires_grad_()
        question = kept(lambda: unet(x, torch.zeros(2), encoder_hidden_states=c).sample, unet)
        decode = kept(lambda: vae.decode(z).sample, vae)
    weights = bytes_of(unet) + bytes_of(vae) + 123e6 * 2 + 87e6 * 4  # text encoder; a ViT-B/16 in fp32
    variables = 4 * 4 * (4 * 64 * 64 + 2 * 20 * 77 * 768)  # with gradient and Adam's two moments
    latents = 20 * 4 * 64 * 64 * 4 * 4  # x, x0, eps and the next x of every step
    crops = 16 * 12 * 197 * (34 * 768 + 5 * 12 * 197) * 2  # a ViT-B/16 on 16 crops, attention written out (an estimate)
    peak = weights + variables + latents + max(question, decode + crops)
    print({k: round(v / GB, 2) for k, v in locals().items() if isinstance(v, (int, float))})
    assert peak < 12 * GB
