"""Inversion for guided walks: null-text, negative-prompt, direct; their gate."""

from dataclasses import replace

import pytest
import torch

from counterlens.core.errors import RunFailed
from counterlens.core.images.pixels import psnr
from counterlens.core.problem.inversion_cache import pack, unpack
from counterlens.core.problem.inversion_tools import ddim_path, walked_back
from counterlens.core.search.strength_search import walk
from counterlens.plugins.inverters.direct import Direct
from counterlens.plugins.inverters.negative_prompt import NegativePrompt
from counterlens.plugins.inverters.null_text import NullText


def published(p, updates=10, count=None, tolerance=1e-5, slope=2e-5):
    """Algorithm 1 of Mokady et al. 2023 with the constants of their notebook, one image at a time, written plainly."""
    scene, s = p.scene, 3.0
    path = ddim_path(p, scene.grid, source=True)
    net, n, every = scene.net, len(scene.grid) - 1, []
    for row in range(len(scene)):
        x, null, found = path[0][row : row + 1], scene.cond["null"][row : row + 1], []
        for i in range(n):
            now, to = scene.grid[i], scene.grid[i + 1]
            t = torch.full((1,), now.t, dtype=x.dtype)
            null = null.clone().detach().requires_grad_()
            optimiser = torch.optim.Adam([null], lr=1e-2 * (1.0 - i / 100.0))
            goal = path[i + 1][row : row + 1]

            def step(text, empty, x=x, now=now, to=to):
                out = empty + s * (text - empty)
                if net.dynamics.kind == "epsilon":
                    x0, eps = (x - now.s * out) / now.a, out
                else:
                    x0, eps = now.a * x - now.s * out, now.s * x + now.a * out
                return to.a * x0 + to.s * eps

            with torch.no_grad():
                text = net.predict(x, t, scene.cond["text"][row : row + 1], {})
            for _ in range(updates):
                loss = torch.nn.functional.mse_loss(step(text, net.predict(x, t, null, {})), goal)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                if count is not None:
                    count[0] += 1
                if loss.item() < tolerance + i * slope:
                    break
            found.append(null.detach())
            with torch.no_grad():
                x = step(text, net.predict(x, t, null, {}))
        every.append(found)
    return [torch.cat([rows[i] for rows in every]) for i in range(n)]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_null_text_is_the_published_update(conditional_problem, kind):
    p = conditional_problem(batch=3, steps=4, kind=kind, double=True)
    found, want = NullText(least=0).invert(p).null, published(p)
    assert max(float((a - b).abs().max()) for a, b in zip(found, want, strict=True)) <= 1e-5
    assert max(float((a - p.scene.cond["null"]).abs().max()) for a in found) > 0.1  # something was optimised


def test_converged_images_leave_the_batch(conditional_problem):
    p = conditional_problem(batch=3, steps=4, double=True)
    count, how = [0], {"tolerance": 0.125, "slope": 0.3}
    published(p, count=count, **how)
    fresh = conditional_problem(batch=3, steps=4, double=True)
    NullText(least=0, **how).invert(fresh)
    meter = fresh.scene.net.meter
    assert sum(meter.backward.values()) == count[0] < 3 * 4 * 10
    assert meter.recomputed[0] == 0
    assert meter.forward[0] == 4 + 4 + meter.backward[0] + 4  # inversion, shared conditional, updates, the step itself


def test_null_text_comes_nearer_than_the_guided_walk_and_batches_do_not_matter(conditional_problem):
    p = conditional_problem(batch=3, steps=4)
    plain = walked_back(p, replace(NullText(least=0, updates=1, rate=1e-12).invert(p)))
    inversion = NullText(least=0).invert(p)
    back = walked_back(p, inversion)
    assert (back - p.scene.x0).square().mean() < 0.9 * (plain - p.scene.x0).square().mean()
    for row in range(3):
        alone = NullText(least=0).invert(p.take([row]))
        assert abs(float(alone.psnr[0] - inversion.psnr[row])) < 0.1
        assert (alone.null[-1][0] - inversion.null[-1][row]).abs().max() <= 1e-4
    assert (walk(p, inversion) - back).abs().max() <= 1e-6  # the method's own walk uses them


def test_negative_prompt_is_the_unguided_walk(conditional_problem):
    p = conditional_problem(batch=2, steps=6)
    inversion = NegativePrompt(least=0).invert(p)
    from counterlens.plugins.combiners.cfg import Cfg

    text = replace(p.scene, cond={"text": p.scene.cond["text"]})
    unguided = walked_back(p.with_(scene=text, combiner=Cfg(scale=1)), replace(inversion, null=None))
    assert (walked_back(p, inversion) - unguided).abs().max() <= 1e-4


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("skip", [0.0, 0.5])
def test_direct_is_exact_under_any_guidance(conditional_problem, kind, skip):
    p = conditional_problem(batch=3, steps=6, kind=kind).with_(batch=4)
    inversion = Direct(least=0).invert(p, skip)
    assert (walk(p, inversion) - p.scene.x0).abs().max() <= 1e-4


def test_the_gate_names_the_images_and_their_psnr(conditional_problem):
    p = conditional_problem(batch=2, steps=4)
    with pytest.raises(RunFailed, match=r"below 90 dB: 0 \(\d+\.\d dB\), 1 \(.* dB\); use more --steps"):
        NullText(least=90).invert(p)


def test_psnr_by_hand():
    x, y = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.1)
    assert float(psnr(x, y)) == pytest.approx(20.0, abs=1e-4) and float(psnr(x, x)) == 100


def test_psnr_is_of_the_reconstruction_and_not_of_the_autoencoder_c10(conditional_problem):
    """Defect C10: what was written as the reconstruction was the autoencoder's round trip."""
    p = conditional_problem(batch=1, steps=4)
    worse, better = (NullText(least=0, updates=k).invert(p).psnr for k in (1, 10))
    assert float(worse) < float(better)


def test_null_texts_are_kept_on_disk(conditional_problem):
    p = conditional_problem(batch=1, steps=4)
    inversion = NullText(least=0).invert(p)
    tensors = pack(inversion, p.scene)
    again, _ = unpack({**tensors, "costs": torch.zeros(3)}, p.scene)
    assert all(torch.equal(a, b) for a, b in zip(again.null, inversion.null, strict=True))
    assert torch.equal(again.psnr, inversion.psnr)


def test_a_sequence_of_nulls_follows_its_rows(conditional_problem):
    p = conditional_problem(batch=3, steps=4)
    inversion = NullText(least=0).invert(p)
    part = inversion.take([2, 0])
    assert torch.equal(part.null[1], inversion.null[1][[2, 0]]) and torch.equal(part.psnr, inversion.psnr[[2, 0]])
