"""Pictures for people, on request: before and after as an animation, what was tried as strips."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from counterlens.core.images.pixels import to_pixels

if TYPE_CHECKING:
    from counterlens.core.problem.items import Counterfactual, Try


SIDE = 256  # small pictures are shown enlarged to at least this, pixel by pixel
MOST = 512  # large ones are reduced to this
SHOW_MS = 1000  # each frame of an animation


def shown(save: Sequence[str], done: Counterfactual, labels: Sequence[str]) -> dict[str, Image.Image | bytes]:
    """The files of ``save`` (tries, strips, gif, webp) for a finished image, by name."""
    files: dict[str, Image.Image | bytes] = {}
    if "tries" in save:
        files |= {f"try-{k:02d}": Image.fromarray(shot.pixels) for k, shot in enumerate(done.shots)}
    if "strips" in save and done.shots:
        files |= strips(done, labels)
    frames = before_and_after(done, labels)
    for kind in ("gif", "webp"):
        if kind in save:
            files[f"flip.{kind}"] = animated(frames, kind)
    return files


def before_and_after(done: Counterfactual, labels: Sequence[str]) -> list[Image.Image]:
    """Source and counterfactual, each with the class that it is decided as and both probabilities."""
    pictures = (done.item.pixels, to_pixels(done.image))
    return [
        _framed(pixels, _says(p, done, labels)) for pixels, p in zip(pictures, (done.before, done.after), strict=True)
    ]


def _says(p, done: Counterfactual, labels: Sequence[str]) -> list[str]:  # type: ignore[no-untyped-def]
    classes = dict.fromkeys((done.source, done.target))
    return [labels[int(p.argmax())], "  ".join(f"{labels[k]} {float(p[k]):.2f}" for k in classes)]


def animated(frames: Sequence[Image.Image], kind: str) -> bytes:
    """The frames as GIF or WebP (lossless), a second each, for ever."""
    out = io.BytesIO()
    how = {"lossless": True} if kind == "webp" else {}
    first, *rest = frames
    first.save(out, kind.upper(), save_all=True, append_images=rest, duration=SHOW_MS, loop=0, **how)
    return out.getvalue()


def strips(done: Counterfactual, labels: Sequence[str]) -> dict[str, Image.Image]:
    """What was tried around the chosen try: every strength at its start, and every start at its strength."""
    chosen = next((shot for shot in done.shots if (shot.pixels == to_pixels(done.image)).all()), done.shots[-1])
    by_strength = sorted((s for s in done.shots if s.skip == chosen.skip), key=lambda s: s.strength)
    by_start = sorted((s for s in done.shots if s.strength == chosen.strength), key=lambda s: -s.skip)
    target = labels[done.target]
    first = _framed(done.item.pixels, ["source", f"{target} {float(done.before[done.target]):.2f}"])
    rows: Mapping[str, list[Image.Image]] = {
        "strip-strength": [_shot(s, f"s = {s.strength:g}", target, s is chosen) for s in by_strength],
        "strip-start": [_shot(s, f"start {s.skip:g}", target, s is chosen) for s in by_start],
    }
    return {name: _beside([first, *tiles]) for name, tiles in rows.items()}


def _shot(shot: Try, title: str, target: str, chosen: bool) -> Image.Image:
    p = "out of range" if shot.p is None else f"{target} {shot.p:.2f}"
    return _framed(shot.pixels, [f"{title}{' (chosen)' if chosen else ''}", p])


def _framed(pixels: np.ndarray, lines: Sequence[str]) -> Image.Image:
    """A picture in a readable size with lines of text below it."""
    picture = _sized(Image.fromarray(pixels))
    height = max(16, picture.width // 16)
    frame = Image.new("RGB", (picture.width, picture.height + int(1.5 * height * len(lines)) + height // 2), "white")
    frame.paste(picture, (0, 0))
    draw, font = ImageDraw.Draw(frame), ImageFont.load_default(height)
    for k, line in enumerate(lines):
        draw.text((height // 3, picture.height + int(1.5 * height * k) + height // 6), line, "black", font=font)
    return frame


def _sized(picture: Image.Image) -> Image.Image:
    side = max(picture.size)
    if side < SIDE:
        by = -(-SIDE // side)
        return picture.resize((picture.width * by, picture.height * by), Image.Resampling.NEAREST)
    if side > MOST:
        picture = picture.copy()
        picture.thumbnail((MOST, MOST), Image.Resampling.LANCZOS)
    return picture


def _beside(tiles: Sequence[Image.Image], gap: int = 8) -> Image.Image:
    width = sum(tile.width for tile in tiles) + gap * (len(tiles) - 1)
    row = Image.new("RGB", (width, max(tile.height for tile in tiles)), "white")
    x = 0
    for tile in tiles:
        row.paste(tile, (x, 0))
        x += tile.width + gap
    return row
