"""``counterlens explain … --method all``: every method that the pipelines serve, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from counterlens.cli import options, render

COLUMNS = ("method", "images", "flip_rate", "judge_agreement", "l1", "changed_area", "unet_evaluations", "seconds")


def explain_all(request: Mapping[str, Any], out: str, again: str, dry_run: bool, as_json: bool, quiet: bool) -> int:
    """Run them and print one row a method; the exit code: 3 unless one method flipped every image."""
    from counterlens.core.engine.request import Request
    from counterlens.core.workflows.all_methods import folder_of, prepare_all, run_all, summary

    render.quieten()
    registry = options.registry()
    records: dict[str, list[dict[str, Any]]] = {}
    with render.progress(quiet) as meter:
        every = prepare_all(Request(**{**request, "method": "guided"}), registry, meter.note)
        if not dry_run:
            for record in run_all(every, registry, Path(out), again, meter, meter.note):
                records.setdefault(record["method"], []).append(record)
                if as_json:
                    render.emit_json(record)
    if dry_run:
        rows = [{"method": name, "pipeline": p.key.model, "images": len(p.asked)} for name, p in every.able.items()]
        render.rows(rows, ("method", "pipeline", "images"), as_json)
    elif not as_json:
        render.rows([summary(name, rows) for name, rows in records.items()], COLUMNS, False)
    for name, why in every.unable.items():
        click.echo(f"cannot: {why}" if name in why else f"cannot: {name}: {why}", err=True)
    if records and not as_json:
        click.echo(f"pictures: {folder_of(every, Path(out)) / 'methods.png'}")
    return 0 if dry_run or any(all(r["flipped"] for r in found) for found in records.values()) else 3
