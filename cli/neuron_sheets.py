"""Contact sheets: rows of pictures with words under them, and maps over them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.cli.sheets import _save

if TYPE_CHECKING:
    from torch import Tensor

Row = tuple[str, "Tensor", Sequence[str], "Tensor | None"]  # title, [N,3,H,W] in [0,1], words, [N,1,H,W] in [0,1]


def write_rows(path: Path, title: str, rows: Sequence[Row]) -> None:
    """A row of pictures each; a map is laid over its picture, which is greyed so that the map shows."""
    from matplotlib.figure import Figure

    columns = max(len(images) for _, images, _, _ in rows)
    figure = Figure(figsize=(1.3 * columns + 0.9, 1.55 * len(rows) + 0.3), dpi=120, layout="constrained")
    figure.suptitle(title, fontsize=9)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, images, words, maps) in zip(axes, rows, strict=True):
        for k, axis in enumerate(line):
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_frame_on(False)
            if k < len(images):
                _draw(axis, images[k], words[k], None if maps is None else maps[k])
        line[0].set_ylabel(name, fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(figure, path)


def _draw(axis: Any, image: Tensor, words: str, change: Tensor | None) -> None:
    if change is not None:
        image = image.mean(0, keepdim=True).expand(3, -1, -1) * 0.7 + 0.15
    axis.imshow(image.permute(1, 2, 0).cpu().numpy(), interpolation="nearest", vmin=0, vmax=1)
    if change is not None:
        axis.imshow(
            change[0].cpu().numpy(), cmap="inferno", vmin=0, vmax=1, alpha=0.65 * change[0].cpu().numpy() ** 0.5
        )
    if words:
        axis.set_xlabel(words, fontsize=6)
