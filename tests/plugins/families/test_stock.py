"""The loop without editors is the stock diffusers pipeline: same folder, same start, same steps, same noises."""

from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler

from counterlens.core.diffusion.levels import churn_of
from counterlens.core.diffusion.loop import denoise, last
from counterlens.core.errors import UsageError
from counterlens.core.testing.tiny import tiny

PROMPTS = ["a red disc", "two cats, one dog and a very small mouse"]
STEPS, SCALE = 5, 4.0
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}


def cfg(branches, step):
    *null, full = branches.values()
    return null[0] + SCALE * (full - null[0]) if null else full


@torch.no_grad()
def ours(pipeline, x, image=None, noise=None, extra=None, steps=STEPS):
    """The end of the plain loop from ``x`` on the pipeline's own grid, [B,C,h,w]."""
    grid, dynamics = pipeline.grid(steps), pipeline.dynamics
    image = torch.zeros(len(x), 3, *pipeline.size) if image is None else image
    cond, own = pipeline.condition(image, PROMPTS, pipeline.branches)
    churn = [churn_of(now, to, dynamics.eta) for now, to in pairwise(grid)]
    frames = denoise(
        pipeline.network(), x, grid, cond, combine=cfg, churn=churn, noise=noise, extra=extra or own,
        rows=tuple(range(len(x))),
    )  # fmt: skip
    return last(frames).x


def near(mine, theirs, moved_from):
    difference = (mine - theirs).abs().max().item()
    print(f"max difference {difference:.1e}")
    assert (theirs - moved_from).abs().max() > 0.1, "the pipeline must have done something"
    assert difference <= 1e-4


def noises(shape, seed=7, count=STEPS):
    """What a stock pipeline draws from one generator: its start, then a noise a step."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(shape, generator=generator) for _ in range(count + 1)]
    return drawn[0], drawn[1:]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_stable_diffusion(world, stock, draw, kind):
    scheduler = DDIMScheduler(**BETAS, prediction_type=kind, set_alpha_to_one=False, steps_offset=1)
    pipeline = world.load("stable-diffusion", f"-{kind}", scheduler=scheduler)
    x = draw(2, 4, 8, 8)
    theirs = stock(world.folder("stable-diffusion", f"-{kind}"))(
        PROMPTS, num_inference_steps=STEPS, guidance_scale=SCALE, latents=x, output_type="latent"
    ).images
    near(ours(pipeline, x), theirs, x)


def test_stable_diffusion_decodes_alike(world, stock, draw):
    x = draw(2, 4, 8, 8)
    pipe = stock(world.folder("stable-diffusion"))
    theirs = pipe(PROMPTS, num_inference_steps=STEPS, guidance_scale=SCALE, latents=x, output_type="pt").images
    pipeline = world.load("stable-diffusion")
    with torch.no_grad():
        mine = (pipeline.decode(ours(pipeline, x)) / 2 + 0.5).clamp(0, 1)
    assert (mine - theirs).abs().max() <= 1e-4


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_sdxl(world, stock, draw, spacing):
    scheduler = EulerDiscreteScheduler(
        **{k: v for k, v in BETAS.items() if k != "clip_sample"}, timestep_spacing=spacing
    )
    pipeline = world.load("sdxl", f"-{spacing}", scheduler=scheduler)
    x, pipe = draw(2, 4, 8, 8), stock(world.folder("sdxl", f"-{spacing}"))
    theirs = pipe(
        PROMPTS, height=16, width=16, num_inference_steps=STEPS, guidance_scale=SCALE, latents=x, output_type="latent"
    ).images
    near(ours(pipeline, x * start_scale(pipe.scheduler)), theirs, x)


def start_scale(scheduler, steps=STEPS):
    """From the unit noise of a user to x of the first level, through the scheduler's own start."""
    scheduler.set_timesteps(steps)
    sigma = float(scheduler.sigmas[0])
    return float(scheduler.init_noise_sigma) / (sigma**2 + 1) ** 0.5


def test_sdxl_without_zeros_for_the_empty_prompt(world, stock, draw, tmp_path, open_pipeline):
    folder = world.folder("sdxl")
    pipe = stock(folder)
    pipe.register_to_config(force_zeros_for_empty_prompt=False)
    pipe.save_pretrained(tmp_path)
    x = draw(2, 4, 8, 8)
    theirs = stock(tmp_path)(
        PROMPTS, height=16, width=16, num_inference_steps=STEPS, guidance_scale=SCALE, latents=x, output_type="latent"
    ).images
    near(ours(open_pipeline("sdxl", tmp_path), x * start_scale(pipe.scheduler)), theirs, x)


def test_ancestral_euler(world, stock, draw):
    scheduler = EulerAncestralDiscreteScheduler(**{k: v for k, v in BETAS.items() if k != "clip_sample"})
    pipeline = world.load("stable-diffusion", "-ancestral", scheduler=scheduler)
    pipe = stock(world.folder("stable-diffusion", "-ancestral"))
    x, noise = noises((2, 4, 8, 8))
    theirs = pipe(
        PROMPTS, num_inference_steps=STEPS, guidance_scale=SCALE, output_type="latent",
        generator=torch.Generator().manual_seed(7),
    ).images  # fmt: skip
    near(ours(pipeline, x * start_scale(pipe.scheduler), noise=noise), theirs, x)


def test_kandinsky22(world, stock, draw):
    pipeline, image = world.load("kandinsky22"), draw(2, 3, 16, 16).clamp(-1, 1)
    cond, _ = pipeline.condition(image, PROMPTS, ("null", "image"))
    x, noise = noises((2, 4, 8, 8))
    theirs = stock(world.folder("kandinsky22"))(
        image_embeds=cond["image"], negative_image_embeds=cond["null"], height=16, width=16, guidance_scale=SCALE,
        num_inference_steps=STEPS, latents=x, generator=after_start(x), output_type="latent",
    ).images  # fmt: skip
    near(ours(pipeline, x, image, noise), theirs, x)


def after_start(x):
    """A generator from which the start has been drawn already."""
    generator = torch.Generator().manual_seed(7)
    torch.randn(x.shape, generator=generator)
    return generator


def test_kandinsky22_embeds_as_the_stock_prior(world, draw):
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    prior, image = world.folder("kandinsky22"), draw(2, 3, 16, 16).clamp(-1, 1)
    prior = prior.with_name(f"{prior.name}-prior")
    encoder = CLIPVisionModelWithProjection.from_pretrained(prior / "image_encoder").eval()
    processor = CLIPImageProcessor.from_pretrained(prior / "image_processor")
    saved = ((image / 2 + 0.5) * 255).round().byte()
    cond, _ = world.load("kandinsky22").condition(image, PROMPTS, ("null", "image"))
    with torch.no_grad():
        theirs = encoder(processor(list(saved.permute(0, 2, 3, 1).numpy()), return_tensors="pt").pixel_values)
        zero = encoder(torch.zeros(1, 3, 16, 16)).image_embeds
    torch.testing.assert_close(cond["image"], theirs.image_embeds)
    torch.testing.assert_close(cond["null"], zero.repeat(2, 1))


def test_deepfloyd_if_first_stage(world, stock):
    pipeline = world.load("deepfloyd-if")
    x, noise = noises((2, 3, 16, 16))
    theirs = stock(world.folder("deepfloyd-if"))(
        PROMPTS, num_inference_steps=STEPS, guidance_scale=SCALE, generator=torch.Generator().manual_seed(7),
        output_type="pt", clean_caption=False,
    ).images  # fmt: skip
    near(ours(pipeline, x, noise=noise), theirs, x)


def test_deepfloyd_if_second_stage(world, stock, draw):
    pipeline = world.load("deepfloyd-if", "-2", stage=2)
    small = draw(2, 3, 4, 4).clamp(-1, 1)
    x, (for_small, *noise) = noises((2, 3, 16, 16), count=STEPS + 1)
    theirs = stock(world.folder("deepfloyd-if", "-2"))(
        PROMPTS, image=small, num_inference_steps=STEPS, guidance_scale=SCALE, output_type="pt",
        generator=torch.Generator().manual_seed(7), height=16, width=16, clean_caption=False,
    ).images  # fmt: skip
    extra = pipeline.enlarged(small, (16, 16), for_small)
    near(ours(pipeline, x, noise=noise, extra={"null": extra, "text": extra}), theirs, x)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ddpm(world, stock, variance):
    from diffusers import DDPMScheduler

    pipeline = world.load("ddpm", f"-{variance}", scheduler=DDPMScheduler(variance_type=variance))
    x, noise = noises((2, 3, 16, 16))
    theirs = stock(world.folder("ddpm", f"-{variance}"))(
        batch_size=2, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(7), output_type="pt"
    ).images
    near((ours(pipeline, x, noise=noise) / 2 + 0.5).clamp(0, 1), theirs, x)


@pytest.mark.parametrize("clip", [True, False])
def test_ddim_on_pixels(world, stock, clip):
    from diffusers import DDIMPipeline

    scheduler = DDIMScheduler(clip_sample=clip)
    pipeline = world.load("ddpm", f"-ddim-{clip}", scheduler=scheduler)
    x, _ = noises((2, 3, 16, 16))
    theirs = DDIMPipeline(pipeline.unet, scheduler)(
        batch_size=2, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(7), output_type="pt"
    ).images
    near((ours(pipeline, x) / 2 + 0.5).clamp(0, 1), theirs, x)


def test_ldm(world, stock):
    pipeline = world.load("ldm")
    x, _ = noises((2, 4, 8, 8))
    theirs = stock(world.folder("ldm"))(
        batch_size=2, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(7), output_type="np"
    ).images
    with torch.no_grad():
        mine = (pipeline.decode(ours(pipeline, x)) / 2 + 0.5).clamp(0, 1)
    difference = (mine - torch.from_numpy(theirs).permute(0, 3, 1, 2)).abs().max()
    assert difference <= 1e-4, difference


# --- SDXL's two experts: a hand-over is the two stock pipelines one after the other ------------------------------

TEN = 10


@pytest.fixture(scope="module")
def experts(world, tmp_path_factory):
    scheduler = EulerDiscreteScheduler(
        **{k: v for k, v in BETAS.items() if k != "clip_sample"}, timestep_spacing="trailing"
    )
    base = world.folder("sdxl", "-trailing-10", scheduler=scheduler)
    return base, tiny("sdxl-refiner", tmp_path_factory.mktemp("refiner") / "model", seed=5, base=base)


def with_refiner(open_pipeline, experts, **options):
    base, refiner = experts
    return open_pipeline("sdxl", base, options=frozenset({"refiner": str(refiner), **options}.items()))


@pytest.mark.parametrize("share", [0.8, 0.5])
def test_hand_over_is_the_stock_pipelines_one_after_the_other(experts, open_pipeline, stock, draw, share):
    first, second = stock(experts[0]), stock(experts[1])
    x = draw(2, 4, 8, 8)
    how = {"num_inference_steps": TEN, "guidance_scale": SCALE, "output_type": "latent"}
    half = first(PROMPTS, height=16, width=16, latents=x, denoising_end=share, **how).images
    # the refiner's pipeline takes latents as they are; original_size is the picture's, as in the first
    theirs = second(
        PROMPTS, image=half, denoising_start=share, original_size=(16, 16), target_size=(16, 16), **how
    ).images
    pipeline = with_refiner(open_pipeline, experts, hand_over=share)
    start = x * start_scale(first.scheduler, TEN)
    near(ours(pipeline, start, steps=TEN), theirs, x)
    plain = ours(open_pipeline("sdxl", experts[0]), start, steps=TEN)
    assert (plain - theirs).abs().max() > 1e-3, "the refiner must matter"


def test_rows_of_two_experts_in_one_call(experts, open_pipeline, draw):
    """A batch of mixed noise levels, as searches make them, is each row's own expert."""
    pipeline = with_refiner(open_pipeline, experts)
    x, t = draw(2, 4, 8, 8), torch.tensor([500, 100])
    with torch.no_grad():
        cond, extra = pipeline.condition(torch.zeros(2, 3, 16, 16), PROMPTS, ("text",))
        both = pipeline.predict(x, t, cond["text"], extra["text"])
        for row in range(2):
            one = {name: value[row : row + 1] for name, value in extra["text"].items()}
            alone = pipeline.predict(x[row : row + 1], t[row : row + 1], cond["text"][row : row + 1], one)
            assert torch.allclose(both[row : row + 1], alone, atol=1e-5)


def test_a_change_of_the_words_reaches_both_experts(experts, open_pipeline, draw):
    """Editors of the condition know only the first expert's; the second reads the same words, changed alike."""
    pipeline, image = with_refiner(open_pipeline, experts), torch.zeros(1, 3, 16, 16)
    x, late = draw(1, 4, 8, 8), torch.tensor([100])
    with torch.no_grad():
        cond, extra = pipeline.condition(image, PROMPTS[:1], ("text",))
        other, beside = pipeline.condition(image, PROMPTS[1:], ("text",))
        edited = {**extra["text"], "refiner_pooled": beside["text"]["refiner_pooled"]}
        moved = pipeline.predict(x, late, other["text"], edited)
        assert torch.allclose(moved, pipeline.predict(x, late, other["text"], beside["text"]), atol=1e-6)
        assert (moved - pipeline.predict(x, late, cond["text"], extra["text"])).abs().max() > 1e-4


def test_a_refiner_of_other_words_is_refused(experts, open_pipeline, world):
    with pytest.raises(UsageError, match=r"reads words of .* give SDXL's refiner"):
        with_refiner(open_pipeline, (experts[0], experts[0]))
    with pytest.raises(UsageError, match=r"5 or 6 about the picture"):
        with_refiner(open_pipeline, (experts[0], world.folder("stable-diffusion")))
