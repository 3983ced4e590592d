"""Digests: one canonical JSON text per value, and its sha256. Never imports torch, numpy or pydantic.

Two values that mean the same (``1`` and ``1.0``, a tuple and a list, a dict in another order) have one digest;
two objects of different classes never share one, even with equal fields.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

from counterlens.core.utils.files import cache_folder, write_atomic

WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".json"})
_hashed: dict[str, str] = {}


def digest(obj: Any) -> str:
    """The sha256 (64 hex digits) of the canonical JSON of ``obj``; TypeError names what has none.

    >>> digest({"a": 1.0, "b": (2,)}) == digest({"b": [2], "a": 1})
    True
    """
    return hashlib.sha256(canonical(obj).encode()).hexdigest()


def canonical(obj: Any) -> str:
    """Canonical JSON: keys sorted, no spaces, ASCII only."""
    return json.dumps(_normal(obj), sort_keys=True, separators=(",", ":"), allow_nan=False)


def image_digest(array: Any) -> str:
    """The sha256 of an array's shape, dtype and bytes in C order (a picture: uint8 ``[H,W,3]``)."""
    head = f"{tuple(array.shape)}|{array.dtype}|".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()


def _normal(obj: Any) -> Any:
    if obj is None or (isinstance(obj, (bool, str)) and not isinstance(obj, Enum)):
        return obj
    if isinstance(obj, Enum):
        return _normal(obj.value)
    if isinstance(obj, int):
        return int(obj)
    if isinstance(obj, float):
        return _number(float(obj))
    if isinstance(obj, Mapping):
        return _mapping(obj)
    if isinstance(obj, (list, tuple)):
        return [_normal(x) for x in obj]
    if isinstance(obj, (set, frozenset)):
        return sorted((_normal(x) for x in obj), key=lambda x: json.dumps(x, sort_keys=True))
    return _special(obj)


def _number(x: float) -> Any:
    if not math.isfinite(x):
        return {"__float__": repr(x)}
    return int(x) if x.is_integer() and abs(x) < 2**53 else x


def _mapping(obj: Mapping[Any, Any]) -> dict[str, Any]:
    out = {str(k): _normal(v) for k, v in obj.items()}
    if len(out) != len(obj):
        raise TypeError("two keys of a mapping have the same text; its digest would lose one")
    return out


def _special(obj: Any) -> Any:
    cls = type(obj)
    if is_dataclass(obj) and not isinstance(obj, type):
        return _typed(cls, {f.name: getattr(obj, f.name) for f in fields(obj)})
    if hasattr(cls, "model_fields"):
        # Field by field and not model_dump(): a field typed as a base class dumps only the fields of the base.
        named = {name: getattr(obj, name) for name, f in cls.model_fields.items() if not f.exclude}
        return _typed(cls, {**named, **(getattr(obj, "model_extra", None) or {})})
    if isinstance(obj, PurePath):
        return obj.as_posix()
    if isinstance(obj, bytes):
        return {"__bytes__": hashlib.sha256(obj).hexdigest()}
    if isinstance(obj, date):
        return obj.isoformat()
    if cls.__module__ == "torch" and cls.__name__ in {"dtype", "device"}:
        return str(obj)
    if cls.__module__.startswith("numpy") and hasattr(obj, "tobytes"):
        return _normal(obj.item()) if obj.ndim == 0 else {"__array__": image_digest(obj)}
    raise TypeError(f"no digest for a {cls.__module__}.{cls.__qualname__}: give numbers, text, lists or dicts")


def _typed(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    return {"__type__": cls.__qualname__, **_mapping(values)}


def file_sha256(path: Path) -> str:
    """The sha256 of a file, read in blocks of 4 MiB."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            sha.update(block)
    return sha.hexdigest()


def weight_hashes(folder: str | Path) -> dict[str, str]:
    """``{relative path: sha256}`` of the weights and configurations in a folder (or of one file), sorted by path.

    A file whose path, size and time are as they were is not read again, in this process or a later one.
    """
    root = Path(folder)
    files = [root] if root.is_file() else sorted(_weights(root))
    base = root.parent if root.is_file() else root
    memory = cache_folder() / "weight-hashes.json"
    _hashed.update({k: v for k, v in _remembered(memory).items() if k not in _hashed})
    before = len(_hashed)
    out = {p.relative_to(base).as_posix(): _hash_once(p) for p in files}
    if len(_hashed) > before:
        _remember(memory)
    return out


def _weights(root: Path) -> Iterable[Path]:
    inside = ((p, p.relative_to(root)) for p in root.rglob("*"))
    return [p for p, r in inside if p.suffix in WEIGHTS and p.is_file() and not any(x[0] == "." for x in r.parts)]


def _hash_once(path: Path) -> str:
    stat = path.stat()
    key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
    if key not in _hashed:
        _hashed[key] = file_sha256(path)
    return _hashed[key]


def _remembered(memory: Path) -> dict[str, str]:
    try:
        found = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(memory: Path) -> None:
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(memory, json.dumps(_hashed, indent=0).encode())
    except OSError:
        pass  # only a shortcut: without it the files are read again next time
