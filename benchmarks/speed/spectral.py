"""Spectral directions against their references: ``speed --only jacobian`` and ``speed --only pca``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from counterlens.benchmarks.speed.clock import now

K = 3
ACCURACY = 1e-4
SITE = "mid.after"


def jacobian(device: str, batch: int, steps: int, repeats: int) -> dict[str, Any]:
    """Leading singular vectors along one image's trajectory: block Krylov against sequential power iteration.

    Both work on the same states of the embedded ``ddpm`` (shapes:0 inverted), in one process, turn by turn. The
    reference runs once as published (tolerance 1e-5, at most 50 iterations a vector) and once with an oracle that stops
    it as soon as its value is right to 1e-4: the least that it can need for the accuracy asked for.
    """
    from counterlens.benchmarks.speed.power_iteration import Whole, sequential
    from counterlens.core.diffusion.step import only
    from counterlens.core.h_space.decoder import decoder_half
    from counterlens.core.linalg.krylov import leading

    net, unet, states = _trajectory(device, steps)
    runs: dict[str, list[dict[str, float]]] = {"krylov": [], "oracle": [], "published": []}
    guess = None
    for step in states:
        truth = leading(decoder_half(net, unet, SITE, step, only).operator(), K, block=8, tol=1e-6).values

        def krylov(step: Any = step) -> tuple[Any, int, int]:
            nonlocal guess
            found = leading(decoder_half(net, unet, SITE, step, only).operator(), K, tol=1e-2, start=guess)
            guess = found.block
            return found.values, found.products, found.rounds

        def reference(enough: Any, limit: int, step: Any = step) -> tuple[Any, int, int]:
            whole = Whole(net, step, SITE)
            values = sequential(whole, K, limit=limit, enough=enough)
            return values, whole.products, whole.products

        def right(i: int, sigma: float, truth: Any = truth) -> bool:
            return abs(sigma / float(truth[i]) - 1) <= ACCURACY

        runs["krylov"].append(_timed(krylov, truth, device))
        runs["oracle"].append(_timed(lambda: reference(right, 500), truth, device))
        runs["published"].append(_timed(lambda: reference(None, 50), truth, device))
    return {"jacobian": {"k": K, "steps": steps, "site": SITE, **_compared(runs)}}


def pca(device: str, batch: int, steps: int, repeats: int, count: int = 500) -> dict[str, Any]:
    """PCA over ``count`` samples and all steps, over the time of sampling the same ones in the same batches.

    Both through the same job, turn by turn; what PCA keeps goes to a folder that is new in every turn.
    """
    import tempfile

    from counterlens.core.h_space.job import FindRequest
    from counterlens.core.plugin.registry import load_registry
    from counterlens.core.workflows.find_directions import open_job

    registry, quest = (
        load_registry(),
        FindRequest(domain="shapes", count=count, steps=steps, batch=batch, device=device),
    )
    found: dict[str, list[tuple[float, float]]] = {"sampling": [], "gram": [], "sketch": []}
    with open_job(registry, quest, {"mid-block": "PCA"}) as job:
        for _ in range(repeats):
            found["sampling"].append(_both(lambda: _sample(job, count), device))
            for by in ("gram", "sketch"):
                with tempfile.TemporaryDirectory() as folder:
                    finder = registry.make("finder", f"pca by={by} folder={folder}")
                    found[by].append(_both(partial(finder.find, job), device))
    ratios = {
        f"{by}_{clock}": statistics.median(a[k] / b[k] for a, b in zip(found[by], found["sampling"], strict=True))
        for by in ("gram", "sketch")
        for k, clock in enumerate(("wall", "cpu"))
    }
    return {"pca": {"samples": count, "steps": steps, "batch": batch, "seconds": found, "over_sampling": ratios}}


def _both(run: Callable[[], Any], device: str) -> tuple[float, float]:
    """Seconds by the clock and of the processor: other work on the machine lengthens the first alone."""
    begun, spent = now(device), time.process_time()
    run()
    return now(device) - begun, time.process_time() - spent


def _sample(job: Any, count: int) -> None:
    """What a user does who only wants the pictures: the loop, in the same batches, from the same noises."""
    import torch

    from counterlens.core.diffusion.loop import denoise, last
    from counterlens.core.diffusion.step import only
    from counterlens.core.h_space.recording import draw
    from counterlens.core.utils.batched import batched

    pipeline, net = job.pipeline, job.pipeline.network()
    with torch.no_grad():
        for numbers in batched(range(count), job.quest.batch):
            x = draw(job.quest.seed, numbers, "start", (pipeline.channels, *pipeline.size)).to(pipeline.device)
            cond = {"free": x.new_zeros(len(x), 0)}
            pipeline.decode(last(denoise(net, x, job.grid, cond, combine=only, rows=tuple(range(len(x))))).x)


def _compared(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    totals = {
        name: {key: sum(run[key] for run in found) for key in ("products", "rounds", "seconds")}
        | {"worst_relative_error": max(run["error"] for run in found)}
        for name, found in runs.items()
    }
    ours = totals["krylov"]
    ratios = {
        f"against_{name}": {
            "products": ours["products"] / totals[name]["products"],
            "rounds": ours["rounds"] / totals[name]["rounds"],
            "speedup": totals[name]["seconds"] / ours["seconds"],
            "speedup_of_steps": statistics.median(
                b["seconds"] / a["seconds"] for a, b in zip(runs["krylov"], runs[name], strict=True)
            ),
        }
        for name in ("oracle", "published")
    }
    return {**totals, **ratios}


def _timed(run: Callable[[], tuple[Any, int, int]], truth: Any, device: str) -> dict[str, float]:
    begun = now(device)
    values, products, rounds = run()
    seconds = now(device) - begun
    error = float((values.to(truth) / truth - 1).abs().max())
    return {"products": products, "rounds": rounds, "seconds": seconds, "error": error}


def _trajectory(device: str, steps: int) -> tuple[Any, Any, list[Any]]:
    """The embedded pixel pipeline and the states of its trajectory for shapes:0, from pure noise to clean."""
    import torch

    from counterlens.core.diffusion.loop import denoise
    from counterlens.core.diffusion.step import only
    from counterlens.core.images.pixels import to_tensor
    from counterlens.core.models.pool import Key
    from counterlens.core.plugin.registry import load_registry

    registry = load_registry()
    domain = registry.domain("shapes")
    pipeline = registry.family("ddpm").load(Key(str(domain.models()["ddpm"]), device=device))
    pixels = to_tensor(domain.sample(0).pixels)[None].to(device)
    net, grid = pipeline.network(), pipeline.grid(steps)
    with torch.no_grad():
        x0 = pipeline.encode(pixels)
        cond = {"free": x0.new_zeros(1, 0)}
        for frame in denoise(net, grid[-1].a * x0, grid[::-1], cond, combine=only, rows=(0,)):
            x = frame.x
        states = [frame.step for frame in denoise(net, x, grid, cond, combine=only, rows=(0,))]
    return net, pipeline.unet, states
