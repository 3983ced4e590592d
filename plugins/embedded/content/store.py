"""Where the weights of the domains lie, and whether they are whole: ``weights/hashes.json`` has every file's sha256."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from counterlens.core.errors import MissingError

WEIGHTS = Path(__file__).parent.parent / "weights"
PIPELINES = ("ddpm", "kandinsky22", "stable-diffusion")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_hashes(root: Path = WEIGHTS) -> None:
    """Note the sha256 of every weights file below ``root``; after training, not by users."""
    files = sorted(root.rglob("*.safetensors"))
    content = {p.relative_to(root).as_posix(): sha256(p) for p in files}
    (root / "hashes.json").write_text(json.dumps(content, indent=1) + "\n")
    for cache in (hashes, checked):
        cache.cache_clear()


@lru_cache(maxsize=4)
def hashes(root: Path = WEIGHTS) -> dict[str, str]:
    path = root / "hashes.json"
    return json.loads(path.read_text()) if path.is_file() else {}


@lru_cache(maxsize=256)
def checked(path: Path, root: Path = WEIGHTS) -> Path:
    """The weights file, or those of the folder, compared with their noted sha256; MissingError when damaged."""
    if not path.exists():
        raise MissingError(f"{path} is missing: install counterlens again")
    for file in [path] if path.is_file() else sorted(path.rglob("*.safetensors")):
        known = hashes(root).get(file.relative_to(root).as_posix())
        if known and sha256(file) != known:
            raise MissingError(f"{file} is damaged (its sha256 is not the one it was shipped with): install again")
    return path


def pipelines(domain: str, root: Path = WEIGHTS) -> dict[str, Path]:
    """The pipeline folders of a domain that are there."""
    return {name: root / domain / name for name in PIPELINES if (root / domain / name / "model_index.json").is_file()}


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def record(domain: str, root: Path = WEIGHTS) -> dict[str, Any]:
    """Measured figures, training records of every part, and bytes of weights."""
    folder = root / domain
    records = sorted([*folder.glob("nets/*.json"), *folder.glob("records/*.json")])
    return {
        "figures": read_json(folder / "figures.json"),
        "training": {path.stem: read_json(path) for path in records},
        "bytes": sum(p.stat().st_size for p in folder.rglob("*.safetensors")),
    }
