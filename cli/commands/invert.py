"""``counterlens invert``: how well can an image be inverted? Reconstructions, their PSNR, and a cache for explain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from counterlens.cli import options, render

COLUMNS = ("image", "psnr", "psnr_codec", "unet_evaluations", "unet_backward", "cached", "seconds", "reconstruction")


@click.command(cls=options.LoadsPipeline)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE…")
@click.option("--inverter", metavar="'NAME k=v'", help="Replace the method's inverter, such as null-text.")
@click.option("--method", default="dig-in", show_default=True, help="Whose inverter, guidance and steps are meant.")
@click.option("--combiner", metavar="'NAME k=v'", help="Replace the method's combiner.")
@click.option("--steps", type=click.IntRange(1, 1000), help="Steps of the whole trajectory.")
@click.option("--prompt", help="Words for the image, for text-conditioned pipelines.")
@click.option("--fit", type=click.Choice(["crop", "pad", "squash"]), default="crop", show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of all noise.")
@click.option(
    "--out", type=click.Path(file_okay=False), default="inversions", show_default=True, help="Folder of pictures."
)
@click.option("--cache/--no-cache", "keep", default=True, help="Keep inversions for: counterlens explain --cache.")
@options.batch
@options.as_json
@options.quiet
@click.pass_context
def invert(
    ctx: click.Context, images: tuple[str, ...], out: str, keep: bool, as_json: bool, quiet: bool, **how: Any
) -> None:
    """Invert IMAGEs and walk back without an edit: one reconstruction and its PSNR each.

    ``psnr_codec`` is that of the autoencoder alone, which no inversion can exceed. Exit code 3: an image could not be
    inverted well enough (the inverter's ``least``).
    """
    rows = run(images, Path(out), keep, how, quiet)
    render.rows(rows, COLUMNS, as_json, "no image was given")
    for row in rows:
        if row["failure"]:
            click.echo(f"{row['image']}: {row['failure']}", err=True)
    failed = [row for row in rows if row["failure"]]
    ctx.exit(1 if len(failed) == len(rows) else 3 if failed else 0)


def run(images: tuple[str, ...], out: Path, keep: bool, how: dict[str, Any], quiet: bool) -> list[dict[str, Any]]:
    """A row an image, in order; the reconstructions are written below ``out``."""
    from contextlib import ExitStack

    from counterlens.core.engine.prepare import prepare
    from counterlens.core.engine.request import Request
    from counterlens.core.engine.session import Session
    from counterlens.core.utils.tensor_cache import Cache
    from counterlens.core.workflows.reconstruct import reconstructed

    loaded = options.registry()
    render.quieten()
    with ExitStack() as stack, render.progress(quiet) as meter:
        prepared = prepare(Request(images=images, **how), loaded, needs={})
        session = Session(loaded, cache=Cache() if keep else None, together=True)
        desk, ready = session.desk(stack, prepared, meter)
        rows = reconstructed(desk, ready, meter)
    out.mkdir(parents=True, exist_ok=True)
    for k, row in enumerate(rows):
        if (picture := row.pop("picture")) is not None:
            path = out / f"{k:03d}-{Path(row['image'].replace(':', '-')).stem}.png"
            picture.save(path)
            row["reconstruction"] = str(path)
    return rows
