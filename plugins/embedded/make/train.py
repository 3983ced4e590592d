"""Train parts of a domain: ``python -m counterlens.plugins.embedded.make.train DOMAIN [PART …] [--out DIR]``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from counterlens.core.errors import unknown

NETS = ("classifier", "judge", "shortcut", "regressor")
PARTS = {
    "shapes": (*NETS, "ddpm", "clip", "clip-image", "vae", "kandinsky22", "stable-diffusion"),
    "digits": ("classifier", "judge", "ddpm", "clip", "vae", "kandinsky22", "stable-diffusion"),
}
NEEDS = {
    "clip-image": ("clip",),
    "kandinsky22": ("clip", "clip-image", "vae"),
    "stable-diffusion": ("clip", "vae"),
}


def train(domain: str, part: str, out: Path, work: Path | None = None, steps: int | None = None, **setup: Any) -> None:
    """Train one part into ``out``; a killed run resumes from ``work`` (default ``out/checkpoints``).

    ``setup``: seed, device, on_progress. The latent pipelines stand on ``clip`` and ``vae``, found in ``out``.
    """
    if domain not in PARTS:
        raise unknown("domain", domain, PARTS)
    if part not in PARTS[domain]:
        raise unknown(f"part of {domain}", part, PARTS[domain])
    from counterlens.core.training.fit import Setup

    work = work or out / "checkpoints"
    if part in NETS:
        from counterlens.plugins.embedded.make.nets import train_net as train_it
    else:
        from counterlens.plugins.embedded.make.pipelines import train_part as train_it
    for needed in NEEDS.get(part, ()):
        if needed in PARTS[domain] and not (out / "records" / f"{needed}.json").is_file():
            train(domain, needed, out, work, None, **setup)
    train_it(domain, part, work, out, steps, Setup(**setup))


def train_domain(
    domain: str,
    out: str | Path | None = None,
    parts: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    on_progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Train a whole domain, or these parts of it, into ``out/DOMAIN`` (default: the package's own weights)."""
    from counterlens.core.utils.files import cache_folder
    from counterlens.plugins.embedded.content import store

    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    for part in parts:
        if part not in PARTS[domain]:
            raise unknown(f"part of {domain}", part, PARTS[domain])
    root = Path(out) if out else store.WEIGHTS
    work = root / domain / "checkpoints" if out else cache_folder() / "training" / domain
    for part in parts or PARTS[domain]:
        train(domain, part, root / domain, work, seed=seed, device=device, on_progress=on_progress)
    store.write_hashes(root)
    return {"weights": str(root / domain), "checkpoints": str(work), **store.record(domain, root)["training"]}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("domain", choices=sorted(PARTS))
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all of the domain, in order")
    parser.add_argument("--out", type=Path, default=Path("counterlens-domains"))
    parser.add_argument("--work", type=Path, help="checkpoints (default: OUT/DOMAIN/checkpoints)")
    parser.add_argument("--steps", type=int, help="instead of the recipe's number")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    o = parser.parse_args(arguments)
    for part in o.parts or PARTS[o.domain]:
        work = o.work / o.domain if o.work else None
        train(o.domain, part, o.out / o.domain, work, o.steps, seed=o.seed, device=o.device)


if __name__ == "__main__":
    main()
