"""The spectral finder along an image's own trajectory."""

from contextlib import ExitStack

import numpy as np
import pytest
import torch
from PIL import Image

from counterlens.core.errors import UsageError
from counterlens.core.h_space.decoder import decoder_half
from counterlens.core.h_space.job import FindRequest
from counterlens.core.plugin.registry import load_registry
from counterlens.core.testing.tiny import tiny
from counterlens.core.workflows.find_directions import open_job
from counterlens.plugins.finders import jacobian_walk

torch.set_num_threads(1)
REGISTRY = load_registry(third_party=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny("ddpm", tmp_path_factory.mktemp("tiny") / "ddpm"))


@pytest.fixture
def find(model, tmp_path, monkeypatch):
    """``find(text, …)``: the bank, the job, and what was noticed. Two rounds of products, without a tolerance."""
    monkeypatch.setenv("COUNTERLENS_CACHE", str(tmp_path / "cache"))

    def run(text="jacobian components=2", **how):
        noticed = []
        quest = FindRequest(**{"images": ("shapes:0",), "model": model, "steps": 3, **how})
        finder = REGISTRY.make("finder", text if "tol=" in text else f"{text} rounds=2")
        with ExitStack() as stack:
            job = open_job(REGISTRY, finder, quest, stack, notice=noticed.append)
            return finder.find(job), job, noticed

    return run


@pytest.fixture
def left(tmp_path):
    """A mask file: the left half of a picture of shapes may change."""
    pixels = np.zeros((32, 32), np.uint8)
    pixels[:, :16] = 255
    Image.fromarray(pixels).save(tmp_path / "left.png")
    return tmp_path / "left.png"


def rows_of(bank):
    """[k,T,d], unit in every step."""
    rows = torch.stack([shift.delta.flatten(1) for shift in bank.shifts])
    return rows / rows.norm(dim=2, keepdim=True)


def operators(job):
    """The Jacobian at every state of the image's own trajectory."""
    problem = job.problem
    frames = problem.frames(problem.invert(0.0))
    return [decoder_half(problem.scene.net, job.pipeline.unet, "mid.after", f.step, problem.combiner) for f in frames]


def test_vectors_are_those_of_a_dense_svd_in_every_step(find):
    bank, job, _ = find("jacobian components=2 tol=1e-4")
    rows = rows_of(bank).double()
    for t, f in enumerate(operators(job)):
        a = f.operator(batch=128)
        _, s, vh = torch.linalg.svd(a.times(torch.eye(a.d)).double().T, full_matrices=False)
        assert (rows[:, t] @ vh[:2].T).abs().max(1).values.min() > 0.999
        values = torch.tensor([shift.about["values"][t] for shift in bank.shifts]).double().sort(descending=True).values
        assert (values / s[:2] - 1).abs().max() < 1e-4
    assert torch.allclose(bank.shifts[0].norms(), bank.norms)
    assert max(bank.shifts[0].about["residual"]) <= 1e-4


@pytest.mark.parametrize("inverter", ["ddim", "edit-friendly", "edit-friendly eta=0.5", "noise"])
def test_d3_and_d5_it_visits_the_states_of_the_sample_for_any_noise(find, inverter, monkeypatch):
    """The reference draws fresh noise on its way, and fails without noise or with a list of it."""
    seen = []

    def look(net, unet, site, step, combine):
        seen.append(step.x.clone())
        return decoder_half(net, unet, site, step, combine)

    monkeypatch.setattr(jacobian_walk, "decoder_half", look)
    _, job, _ = find(inverter=inverter)
    problem = job.problem
    own = [frame.step.x for frame in problem.frames(problem.invert(0.0))]
    assert len(seen) == 3
    assert all(torch.equal(a, b) for a, b in zip(seen, own, strict=True))


@pytest.mark.parametrize(("family", "prompt"), [("stable-diffusion", "a cat"), ("sdxl", "a cat"), ("ldm", "")])
def test_d5_it_works_on_latents_and_under_text_with_guidance(find, family, prompt, tmp_path):
    folder = tiny(family, tmp_path / family)
    combiner = "cfg scale=3" if prompt else "cfg scale=1"
    bank, _, _ = find("jacobian components=2 tol=1e-3", model=str(folder), prompt=prompt, combiner=combiner, steps=2)
    assert max(bank.shifts[0].about["residual"]) <= 1e-3


def test_d4_two_masks_are_two_answers_and_the_key_knows_everything(find, left, tmp_path, monkeypatch):
    """The reference's cache ignores the mask and which image it was: the second mask gets the first one's vectors."""
    keys = []
    put = jacobian_walk.Cache.put
    monkeypatch.setattr(
        jacobian_walk.Cache, "put", lambda self, key, tensors: keys.append(key) or put(self, key, tensors)
    )
    pixels = 255 - np.array(Image.open(left))
    Image.fromarray(pixels).save(tmp_path / "right.png")
    one, other = (find(f"jacobian components=2 mask={path}")[0] for path in (left, tmp_path / "right.png"))
    assert (rows_of(one) * rows_of(other)).sum(2).abs().max() < 0.99
    find("jacobian components=1")
    find("jacobian components=2")
    find("jacobian components=2 tol=1e-2 rounds=2")
    find("jacobian components=2", images=("shapes:1",))
    find("jacobian components=2", site="mid.before")
    find("jacobian components=2", model=str(tiny("ddpm", tmp_path / "other", seed=1)))
    assert len(keys) == len(set(keys)) == 8 * 3


def test_a_run_that_is_stopped_goes_on_with_the_same_bits(find, monkeypatch):
    asked = []
    spectrum = jacobian_walk._spectrum

    def stops(finder, f, change, start):
        asked.append(f.step.i)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return spectrum(finder, f, change, start)

    monkeypatch.setattr(jacobian_walk, "_spectrum", stops)
    with pytest.raises(KeyboardInterrupt):
        find()
    bank, _, _ = find()
    assert asked == [0, 1, 1, 2]
    monkeypatch.setattr(jacobian_walk.Cache, "get", lambda self, key: None)
    whole, _, _ = find()
    assert asked == [0, 1, 1, 2, 0, 1, 2]
    assert all(torch.equal(a.delta, b.delta) for a, b in zip(bank.shifts, whole.shifts, strict=True))


def leak(bank, job, mask):
    """What the first direction does outside of the mask, over what it does inside, on average over the steps."""
    rows, out = rows_of(bank), []
    for t, f in enumerate(operators(job)):
        moved = f.pushed(rows[:1, t].unflatten(1, f.h.shape[1:]))
        out.append(float((moved * (1 - mask)).norm() / (moved * mask).norm()))
    return sum(out) / len(out)


def test_directions_that_avoid_the_outside_leak_less(find, left):
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1
    plain, free, null, ratio = (
        leak(*find(f"jacobian components=1 tol=0.02 {how}", steps=2)[:2], mask)
        for how in ("", *(f"mask={left} {way}" for way in ("", "outside=null-space avoid=6", "outside=ratio")))
    )
    assert free < plain
    assert null < free
    assert ratio < free


def test_maskers_of_plugins_say_where(find):
    bank, _, _ = find("jacobian components=1 mask='attribution area=0.2 steps=2'", steps=1)
    assert 0 < bank.provenance["mask_share"] <= 0.25


def test_one_steps_vectors_can_serve_all_steps(find):
    own, _, _ = find("jacobian components=1")
    one, _, _ = find("jacobian components=1 at=0.5")
    rows = rows_of(one)[0]
    assert torch.allclose(rows[0], rows[2], atol=1e-6)
    assert torch.allclose(rows[1], rows_of(own)[0, 1], atol=1e-6)


def test_directions_keep_their_sign_from_step_to_step(find):
    rows = rows_of(find("jacobian components=2")[0])
    assert (rows[:, :-1] * rows[:, 1:]).sum(2).min() >= 0


def test_bad_input(find, tmp_path):
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "empty.png")
    with pytest.raises(UsageError, match="locks every pixel"):
        find(f"jacobian mask={tmp_path / 'empty.png'}")
    with pytest.raises(UsageError, match="needs a --mask"):
        find("jacobian outside=ratio")
    with pytest.raises(UsageError, match="works for one image"):
        find("jacobian", images=())
    with pytest.raises(UsageError, match="give one --image"):
        find("jacobian", images=("shapes:0", "shapes:1"))
    with pytest.raises(UsageError, match="1024 numbers has at most as many"):
        find("jacobian components=2000")


def test_half_precision_is_warned_of(find):
    _, _, noticed = find("jacobian components=1", dtype="bfloat16", steps=1)
    assert any("three digits" in line for line in noticed)
    assert any("raise --rounds" in line for line in noticed)
