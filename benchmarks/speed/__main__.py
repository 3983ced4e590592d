"""Counts and paired ratios of the engine: ``python -m counterlens.benchmarks.speed --json``.

Every ratio is measured inside one run, against the network calls (or the reference algorithm) of that very run,
so that a busy machine changes both sides alike.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import click

from counterlens.benchmarks.speed.clock import now


@click.command()
@click.option(
    "--only",
    type=click.Choice(["overhead", "inversion", "change-map", "scaling", "jacobian", "pca"]),
    multiple=True,
    help="measure only this",
)
@click.option("--device", default="cpu", show_default=True)
@click.option("--batch", default=8, show_default=True, type=click.IntRange(1))
@click.option("--steps", default=20, show_default=True, type=click.IntRange(2))
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1))
@click.option("--threads", default=0, help="CPU threads; 0 leaves torch's choice")
@click.option("--json", "as_json", is_flag=True, help="end with one JSON object on stdout")
def speed(
    only: tuple[str, ...], device: str, batch: int, steps: int, repeats: int, threads: int, as_json: bool
) -> None:
    """Measure the engine: its overhead over the bare U-Net calls, what inversion costs, how workers scale."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    result: dict[str, Any] = {
        "machine": _machine(device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    for name in only or ALONE:
        result |= MEASURES[name](device, batch, steps, repeats)
    if as_json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key}: {value}")


def overhead(device: str, batch: int, steps: int, repeats: int) -> dict[str, Any]:
    """Share of the loop's time that is not spent in the U-Net, of the very calls that the loop makes."""
    import torch

    from counterlens.core.diffusion.loop import denoise

    shares, calls = [], 0
    for _ in range(repeats + 1):  # the first one warms up
        net, clock, x, grid = _subject(device, batch, steps)
        with torch.no_grad():
            begun = now(device)
            for _frame in denoise(net, x, grid, {"free": x.new_zeros(batch, 0)}, rows=tuple(range(batch))):
                pass
            total = now(device) - begun
        shares.append((total - clock.seconds) / clock.seconds)
        calls += clock.calls
    shares = shares[1:]
    return {
        "overhead": statistics.median(shares),
        "overhead_runs": shares,
        "unet_calls": calls,
        "unet_ms": 1000 * clock.seconds / clock.calls,
        "batch": batch,
        "steps": steps,
    }


def inversion(device: str, batch: int, steps: int, repeats: int) -> dict[str, Any]:
    """Edit-friendly inversion in batches over timesteps, against the same questions asked one timestep at a time."""
    import torch

    from counterlens.core.diffusion.levels import rows
    from counterlens.core.diffusion.step import Step, only

    net, _clock, x, grid = _subject(device, 1, steps)
    cond = {"free": x.new_zeros(1, 0)}
    many = {"free": x.new_zeros(steps, 0)}
    ratios = []
    with torch.no_grad():
        for _ in range(repeats + 1):
            begun = now(device)
            for i in range(steps):
                net.estimate(Step(i=0, n=steps, now=grid[i], to=grid[i + 1], x=x, cond=cond, rows=(0,)), (), only)
            single = now(device) - begun
            begun = now(device)
            at, to = rows(grid[:-1], x.device), rows(grid[1:], x.device)
            net.estimate(
                Step(i=0, n=1, now=at, to=to, x=x.repeat(steps, 1, 1, 1), cond=many, rows=(0,) * steps), (), only
            )
            ratios.append(single / (now(device) - begun))
    edit_friendly = {"speedup": statistics.median(ratios[1:]), "inversion_calls": {"sequential": steps, "batched": 1}}
    from counterlens.benchmarks.speed.null_text import null_text

    return edit_friendly | null_text(device, batch, steps)


def change_map(device: str, batch: int, steps: int, repeats: int) -> dict[str, Any]:
    """What holding a change map adds to a step: time outside the U-Net with it less without, over the U-Net's own."""
    import torch

    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.diffusion.lock import Lock
    from counterlens.core.diffusion.loop import denoise

    net, clock, x, grid = _subject(device, batch, steps)
    cond, rows = {"free": x.new_zeros(batch, 0)}, tuple(range(batch))
    change = torch.rand(batch, 1, *x.shape[-2:], generator=torch.Generator().manual_seed(1)).to(device)
    image = torch.zeros_like(x)
    lock = Lock(change=change, keep=1 - change, x0=image, image=image, alpha=(change > 0).to(x.dtype), top=999.0)
    added = []

    def outside(editors: list[Any]) -> tuple[float, float]:
        spent, begun = clock.seconds, now(device)
        for _frame in denoise(net, x, grid, cond, editors, rows=rows):
            pass
        unet = clock.seconds - spent
        return now(device) - begun - unet, unet

    with torch.no_grad():
        for _ in range(repeats + 1):
            held = lock.hold(Inversion(x, grid), net)
            (plain, first), (locked, second) = outside([]), outside([held])
            added.append((locked - plain) / (first + second) * 2)
    return {"overhead": statistics.median(added[1:]), "overhead_runs": added[1:], "batch": batch, "steps": steps}


def _later(module: str, name: str) -> Callable[[str, int, int, int], dict[str, Any]]:
    """A measure of another file, which is loaded when it is measured."""
    return lambda *how: getattr(import_module(f"counterlens.benchmarks.speed.{module}"), name)(*how)


MEASURES: dict[str, Callable[[str, int, int, int], dict[str, Any]]] = {
    "overhead": overhead,
    "inversion": inversion,
    "change-map": change_map,
    "scaling": _later("scaling", "scaling"),
    "jacobian": _later("spectral", "jacobian"),
    "pca": _later("spectral", "pca"),
}
ALONE = ("overhead", "inversion")  # measured when nothing is named: no processes, and one figure of each name


class Clock:
    """A network's predict, timed."""

    def __init__(self, unet: Any, device: str) -> None:
        self.unet, self.device, self.seconds, self.calls = unet, device, 0.0, 0

    def __call__(self, x: Any, t: Any, cond: Any, extra: Any) -> Any:
        begun = now(self.device)
        out = self.unet(x, t).sample
        self.seconds += now(self.device) - begun
        self.calls += 1
        return out


def _subject(device: str, batch: int, steps: int) -> tuple[Any, Clock, Any, Any]:
    """A pixel U-Net of the embedded domains' size with random weights, as a network of the engine."""
    import torch
    from diffusers import DDIMScheduler, UNet2DModel

    from counterlens.core.diffusion.network import Network
    from counterlens.core.diffusion.schedulers import dynamics_of, grid_of
    from counterlens.core.diffusion.sites import activation_sites, attention_sites

    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=32,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )
    unet.eval()  # type: ignore[attr-defined]
    unet.requires_grad_(False).to(device)
    scheduler, clock = DDIMScheduler(clip_sample=False), Clock(unet, device)
    net = Network(
        predict=clock,
        dynamics=dynamics_of(scheduler),
        channels=3,
        sites=activation_sites(unet),
        attention=attention_sites(unet),
    )
    return net, clock, torch.randn(batch, 3, 32, 32, device=device), grid_of(scheduler, steps)


def _machine(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    import os

    return f"{platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    speed(sys.argv[1:])
