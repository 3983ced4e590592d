"""Train parts of a domain: ``python -m counterlens.plugins.embedded.train DOMAIN [PART …] [--out DIR] [--steps N]``."""

from __future__ import annotations

import argparse
from pathlib import Path

PARTS = {
    "shapes": (
        "classifier",
        "judge",
        "shortcut",
        "regressor",
        "ddpm",
        "clip",
        "vae",
        "kandinsky22",
        "stable-diffusion",
    ),
    "digits": ("classifier", "judge", "ddpm", "clip", "vae", "kandinsky22", "stable-diffusion"),
}


def train(domain: str, part: str, out: Path, work: Path | None = None, steps: int | None = None, seed: int = 0) -> None:
    """Train one part into ``out``; a killed run resumes from ``work`` (default ``out/checkpoints``)."""
    if domain not in PARTS:
        raise ValueError(f"no domain {domain!r}; there are {', '.join(PARTS)}")
    if part not in PARTS[domain]:
        raise ValueError(f"{domain} has no part {part!r}; there are {', '.join(PARTS[domain])}")
    work = work or out / "checkpoints"
    if part in ("classifier", "judge", "shortcut", "regressor"):
        from counterlens.plugins.embedded.train_nets import train_net

        train_net(domain, part, work, out, steps, seed)
    else:
        from counterlens.plugins.embedded.train_pipelines import train_part

        train_part(domain, part, work, out, steps, seed)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="counterlens domains train", description=__doc__)
    parser.add_argument("domain", choices=sorted(PARTS))
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all of the domain, in order")
    parser.add_argument("--out", type=Path, default=Path("counterlens-domains"))
    parser.add_argument("--work", type=Path, help="checkpoints (default: OUT/DOMAIN/checkpoints)")
    parser.add_argument("--steps", type=int, help="instead of the recipe's number")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    for part in options.parts or PARTS[options.domain]:
        work = options.work / options.domain if options.work else None
        train(options.domain, part, options.out / options.domain, work, options.steps, options.seed)


if __name__ == "__main__":
    main()
