"""Pictures of several pictures: the sheet of a fan, and what a change map means before anything is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.h_space.apply import Cell
    from counterlens.core.problem.problem import Problem
    from counterlens.core.workflows.strength_fan import Fan
    from counterlens.core.workflows.unit_study import Sheet


def write_sheet(path: Path, sheet: Sheet) -> None:
    """A row of pictures each; a map is laid over its picture, which is greyed so that the map shows."""
    from matplotlib.figure import Figure

    rows = sheet.rows
    columns = max(len(row.images) for row in rows)
    figure = Figure(figsize=(1.3 * columns + 0.9, 1.55 * len(rows) + 0.3), dpi=120, layout="constrained")
    figure.suptitle(sheet.title, fontsize=9)
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


def write_fan(out: Path, made: Fan, problem: Problem, rows: list[dict[str, Any]]) -> None:
    """Source and one picture a strength above; the strips, their map, and its releases below."""
    locked = _with_map(problem, made.maps[-1:])
    figure, axes = _axes(2, max(4, len(rows) + 1))
    _show(axes[0][0], made.source, "source")
    for axis, picture, row in zip(axes[0][1:], made.pictures, rows, strict=False):
        said = " flipped" if row["flipped"] else ""
        _show(axis, picture, f"strength {row['strength']:g}\np = {row['p_target']:.2f}{said}, l1 = {row['l1']:.3f}")
    _show(axes[1][0], made.pictures[-1], "strips: " + " ".join(f"{row['strength']:g}" for row in rows))
    _map_panels(figure, axes[1][1:], locked)
    _save(figure, out)


def write_preview(out: Path, problem: Problem) -> None:
    """The picture, its change map over it, the map alone, and the step in which every place is released."""
    for editor in problem.editors:
        problem = editor.on_problem(problem)
    figure, axes = _axes(1, 4)
    from counterlens.core.images.pixels import unit

    _show(axes[0][0], unit(problem.scene.image[0]).clamp(0, 1), "source")
    _map_panels(figure, axes[0][1:], problem)
    _save(figure, out)


def write_cells(out: Path, found: Sequence[Cell], labels: Sequence[str]) -> None:
    """A row for each image, direction and window of steps, a column for each strength."""
    keys = list(dict.fromkeys((c.image, c.direction, c.window) for c in found))
    strengths = list(dict.fromkeys(c.strength for c in found))
    figure, axes = _axes(len(keys), len(strengths))
    for c in found:
        row, column = keys.index((c.image, c.direction, c.window)), strengths.index(c.strength)
        decided = int(c.p.argmax())
        axis = axes[row][column]
        _show(axis, c.picture, f"{c.strength:+g}: {labels[decided]} {float(c.p[decided]):.2f}")
        if column == 0:
            steps = "" if c.window == (0.0, 1.0) else f"\nsteps {c.window[0]:g} to {c.window[1]:g}"
            said = {"fontsize": 8, "rotation": 90, "ha": "right", "va": "center"}
            axis.text(-0.06, 0.5, f"{c.image}\n{c.direction}{steps}", transform=axis.transAxes, **said)
    _save(figure, out)


def _with_map(problem: Problem, change: Tensor) -> Problem:
    editor: Any = next(e for e in problem.editors if e.name == "change-map")
    one = problem.take([0])
    return one.with_(scene=editor.lock(one.scene, change))


def _map_panels(figure: Any, axes: Any, problem: Problem) -> None:
    from counterlens.core.images.pixels import unit
    from counterlens.core.workflows.strength_fan import released

    scene = problem.scene
    assert scene.lock is not None and scene.change_map is not None
    change = scene.change_map[0].cpu()
    grey = unit(scene.image[0].cpu()).clamp(0, 1).mean(0, keepdim=True).expand(3, -1, -1) * 0.5 + 0.25
    red = grey.new_tensor([0.9, 0.1, 0.1]).view(3, 1, 1)
    _show(axes[0], grey * (1 - 0.8 * change) + red * 0.8 * change, "may change (red)")
    _show(axes[1], change.expand(3, -1, -1), f"map, {100 * (change > 0).float().mean():.0f} % of the picture")
    n = len(scene.grid) - 1
    steps = released(scene.lock, scene.grid)[0, 0].cpu()
    shown = axes[2].imshow(steps.numpy(), vmin=1, vmax=n + 1, cmap="viridis_r", interpolation="nearest")
    axes[2].set_title(f"released in step, of {n}\n({n + 1}: never)", fontsize=8)
    axes[2].axis("off")
    figure.colorbar(shown, ax=axes[2], orientation="horizontal", fraction=0.06, pad=0.02)


def _axes(rows: int, columns: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.9 * columns, 2.2 * rows), dpi=120, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    return figure, axes


def _show(axis: Any, picture: Tensor, title: str) -> None:
    axis.imshow(picture.permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
    axis.set_title(title, fontsize=8)


def _save(figure: Any, out: Path) -> None:
    """Whole or not at all."""
    from io import BytesIO

    from counterlens.core.utils.files import write_atomic

    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    write_atomic(out, buffer.getvalue())
