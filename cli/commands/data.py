"""``counterlens data``: what labelled images are, and whether anything is wrong with them."""

from __future__ import annotations

from typing import Any

import click

from counterlens.cli import options, render


@click.group()
def data() -> None:
    """Labelled images: a folder of class folders, csv:FILE, npz:FILE, hf:NAME or domain:NAME."""


@data.command()
@click.argument("uri", metavar="DATA")
@options.data
@options.as_json
@options.quiet
def check(uri: str, as_json: bool, quiet: bool, **how: Any) -> None:
    """Read every image and say what is there: classes, groups, sizes, damaged files, duplicates, and how well a quick
    probe tells the classes apart. All parts are read if --split does not say which."""
    from counterlens.core.data.audit import audit as checked

    whole = options.refine(uri, how, "all")
    with render.progress(quiet) as meter:
        found = checked(options.registry().open_dataset(whole), lambda done, total: meter("reading", done, total))
    if as_json:
        render.emit_json(found)
        return
    render.table(found["classes"], ("class", "images", "groups", "unreadable"), found["data"])
    sizes = ", ".join(f"{size} ({count})" for size, count in found["sizes"].items())
    click.echo(f"sizes: {sizes}")
    if found["no_images"]:
        click.echo(f"passed over: {len(found['no_images'])} files that are no images, such as {found['no_images'][0]}")
    if found["duplicates"]:
        click.echo(f"duplicates: {len(found['duplicates'])}, such as {' = '.join(found['duplicates'][0])}")
    if found["probe"]:
        rows = found["probe"]
        click.echo(f"quick probe: AUC {rows['auc']} ± {rows['error']} on {rows['images']} images")
    for text in found["warnings"]:
        click.echo(f"warning: {text}", err=True)
