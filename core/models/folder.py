"""A pipeline folder read from its indices and file headers alone: no weights, no torch."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from counterlens.core.errors import CounterlensError, MissingError, UsageError

Recognise = Callable[[Mapping[str, Any]], str]  # model_index.json -> the family's name; UsageError for an unknown one


def pipelines_in(model: str, recognise: Recognise) -> dict[str, tuple[Path, dict[str, Any]]]:
    """{family: (folder, its model_index.json)} of the pipelines in a folder that is none itself; empty for everything
    else."""
    folder = Path(model).expanduser()
    if not folder.is_dir() or (folder / "model_index.json").is_file():
        return {}
    found = ((path.parent, index_of(path.parent)) for path in sorted(folder.glob("*/model_index.json")))
    families = ((family_of(index, recognise), (path, index)) for path, index in found)
    return {family: place for family, place in families if family}


LONGEST = 100_000_000  # bytes; a longer header is not a header


def describe_folder(folder: Path, recognise: Recognise) -> dict[str, Any]:
    """Family, parts with parameters and bytes, scheduler and prediction kind of a folder in diffusers' layout."""
    index = index_of(folder)
    scheduler = _json(folder / "scheduler" / "scheduler_config.json")
    parts = list(parts_of(folder, index))
    return {
        "model": str(folder),
        "pipeline": index.get("_class_name"),
        "family": family_of(index, recognise),
        "scheduler": scheduler.get("_class_name"),
        "prediction": scheduler.get("prediction_type", "epsilon") if scheduler else None,
        "train_steps": scheduler.get("num_train_timesteps"),
        "parameters": sum(part["parameters"] or 0 for part in parts),
        "bytes": sum(part["bytes"] for part in parts),
        "parts": parts,
    }


def index_of(folder: Path) -> dict[str, Any]:
    """``model_index.json``; errors say what is expected there."""
    if not folder.exists():
        raise MissingError(f"{folder} does not exist: give a folder in diffusers' layout")
    index = _json(folder / "model_index.json")
    if not index:
        raise UsageError(f"{folder}: no readable model_index.json; give a folder in diffusers' layout")
    return index


def family_of(index: Mapping[str, Any], recognise: Recognise) -> str | None:
    """The family's name, None when no installed family takes this pipeline."""
    try:
        return recognise(index)
    except CounterlensError:
        return None


def parts_of(folder: Path, index: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each part that the index names: class, status, parameters (of one variant), bytes, dtypes."""
    for name, value in index.items():
        if not (isinstance(value, list) and len(value) == 2 and value[1]):
            continue
        place = folder / name
        files = _one_variant(place)
        shapes = [header(file) for file in files]
        tensors = [t for found in shapes for t in found.values()]
        yield {
            "part": name,
            "class": value[1],
            "status": _status(place, files, shapes),
            "parameters": sum(math.prod(t["shape"]) for t in tensors) if files else None,
            "bytes": sum(file.stat().st_size for file in files),
            "dtypes": sorted({t["dtype"] for t in tensors}),
        }


def _one_variant(place: Path) -> list[Path]:
    """The safetensors files of one variant: the plain ones, else those of the first variant's name."""
    files = sorted(place.glob("*.safetensors"))
    plain = [f for f in files if f.name.split("-0")[0].count(".") <= 1]
    if plain or not files:
        return plain
    variant = files[0].name.split(".")[1].split("-")[0]
    return [f for f in files if f".{variant}" in f.name]


def _status(place: Path, files: list[Path], shapes: list[dict[str, Any]]) -> str:
    if not place.is_dir():
        return "missing"
    if not all(shapes):
        return "damaged weights"
    network = (place / "config.json").is_file()
    return "no safetensors" if network and not files else "ok"


def header(file: Path) -> dict[str, Any]:
    """``{tensor: {dtype, shape}}`` of a safetensors file; empty when it is no whole one."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if not 0 < length < LONGEST:
                return {}
            found = json.loads(stream.read(length))
            end = max((t["data_offsets"][1] for name, t in found.items() if name != "__metadata__"), default=0)
        whole = file.stat().st_size == 8 + length + end
        return {name: t for name, t in found.items() if name != "__metadata__"} if whole else {}
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError):
        return {}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
