"""A folder of several pipelines, such as ``train backbone`` writes: each method takes the one that it prefers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from counterlens.core.layout import family_of, index_of

if TYPE_CHECKING:
    from counterlens.core.registry import Registry


def pipelines_in(model: str, registry: Registry) -> dict[str, Path]:
    """{family: folder} of the pipelines in a folder that is none itself; empty for everything else."""
    folder = Path(model).expanduser()
    if not folder.is_dir() or (folder / "model_index.json").is_file():
        return {}
    found = {path.parent for path in folder.glob("*/model_index.json")}
    families = {path: family_of(index_of(path), registry) for path in sorted(found)}
    return {family: path for path, family in families.items() if family}
