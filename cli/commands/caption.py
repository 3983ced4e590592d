"""``counterlens caption``: words for pictures that name their class, before anything expensive is done with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from counterlens.cli import options, render

COLUMNS = ("image", "label", "caption", "note")


@click.command(cls=options.LoadsClassifier)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE…")
@click.option("--captioner", default="template", show_default=True, metavar="'NAME k=v'", help="What writes them.")
@click.option("--label", metavar="CLASS", help="The class of all pictures, as the classifier writes it.")
@click.option("--classifier", metavar="URI", help="Take the class that this classifier decides for.")
@click.option("--size", type=click.IntRange(8), help="Cut pictures to this side, that of the pipeline, before.")
@click.option("--fit", type=click.Choice(["crop", "pad", "squash"]), default="crop", show_default=True)
@click.option("--out", type=click.Path(dir_okay=False), help="Write them as JSON lines, for --captioner 'file path=…'.")
@options.as_json
def caption(images: tuple[str, ...], out: str | None, as_json: bool, **how: Any) -> None:
    """Caption pictures; every caption names its picture's class.

    The class is --label, else that of --classifier, else a domain's own, else the name of the picture's folder. A
    caption that does not name it is mended, or refused with missing=refuse.
    """
    rows = run(images, **how)
    if out:
        from counterlens.core.utils.files import explained, write_atomic

        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        with explained(Path(out)):
            write_atomic(Path(out), lines.encode())
    render.rows(rows, COLUMNS, as_json)


def run(
    images: tuple[str, ...],
    captioner: str,
    label: str | None = None,
    classifier: str | None = None,
    size: int | None = None,
    fit: str = "crop",
    **how: Any,
) -> list[dict[str, Any]]:
    """{image, digest, label, caption, note} of every picture."""
    from counterlens.core.engine.request import Request, gather
    from counterlens.core.images.fit import fit as fitted
    from counterlens.core.models.device import device_of
    from counterlens.core.models.model_options import go_offline
    from counterlens.core.utils.digest import image_digest

    networks, loaded = options.model_options(how), options.registry()
    go_offline(networks.offline)
    where = device_of(networks.device)
    piece = loaded.make("captioner", captioner)
    asked = gather(Request(images=images), loaded)
    piece.check(asked)
    render.quieten()
    pictures = [fitted(one.picture, size, fit).pixels if size else one.picture.pixels for one in asked]
    labels = _labels(asked, pictures, label, classifier, where)
    found = piece.caption(pictures, labels, where)
    return [
        {"image": one.name, "digest": image_digest(picture), "label": name, "caption": text, "note": note}
        for one, picture, name, (text, note) in zip(asked, pictures, labels, found, strict=True)
    ]


def _labels(asked: list[Any], pictures: list[Any], label: str | None, uri: str | None, device: str) -> list[str]:
    from counterlens.core.errors import UsageError

    if uri and not label:
        return _decided(pictures, uri, device)
    labels = [label or one.label or "" for one in asked]
    if missing := [one.name for one, name in zip(asked, labels, strict=True) if not name.strip(" ./")]:
        raise UsageError(f"{missing[0]}: of which class is it? give --label CLASS or --classifier URI")
    return labels


def _decided(pictures: list[Any], uri: str, device: str) -> list[str]:
    import torch

    from counterlens.core.images.pixels import as_saved, to_tensor

    opened = options.registry().open_classifier(uri, device)
    with torch.no_grad():
        found = [opened.probabilities(as_saved(to_tensor(p)[None].to(device))).argmax(1) for p in pictures]
    return [opened.labels[int(index)] for index in found]
