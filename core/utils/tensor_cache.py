"""A disk cache of tensors by content: inversions, embeddings and features that all methods share.

A cache is a convenience: a full disk, a damaged file or a missing permission is a miss, never a failure.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from counterlens.core.utils.digest import digest, image_digest
from counterlens.core.utils.files import cache_folder, sweep, write_atomic

__all__ = ["Cache", "digest", "image_digest"]


class Cache:
    """Tensors under a key in ``folder``, at most ``limit`` bytes; what was used longest ago goes first."""

    def __init__(self, folder: str | Path | None = None, limit: int = 2 * 2**30) -> None:
        self.folder = Path(folder) if folder is not None else cache_folder() / "tensors"
        self.limit = limit
        self._warned = False

    def key(self, parts: Mapping[str, Any]) -> str:
        """64 hex digits for everything the tensors depend on (image, family, revision, inverter, dtype, …)."""
        return digest(dict(parts))

    def path(self, key: str) -> Path:
        """The file of a key; ValueError for one that did not come from ``key``."""
        if len(key) != 64 or set(key) - set("0123456789abcdef"):
            raise ValueError(f"not a cache key: {key!r}")
        return self.folder / f"{key}.safetensors"

    def get(self, key: str) -> dict[str, Tensor] | None:
        """The tensors, on the CPU, or None. A damaged file is removed and counts as not there."""
        path = self.path(key)
        try:
            blob = path.read_bytes()
        except OSError:
            return None
        try:
            tensors = _unpack(blob)
        except (SafetensorError, ValueError, KeyError, struct.error):
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)  # its turn to be dropped comes last now
        return tensors

    def put(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep the tensors (any device, any strides). If the disk does not take them, warn once and go on."""
        path, blob = self.path(key), _pack(tensors)
        if len(blob) > self.limit:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(path, blob)
            self._shrink(keep=path)
        except OSError as error:
            self._warn(error)

    def size(self) -> int:
        """Bytes on the disk now."""
        return sum(size for _, size, _ in self._entries())

    def clear(self) -> int:
        """Remove everything; returns the bytes that were freed."""
        freed = 0
        for _, size, path in self._entries():
            with suppress(OSError):
                path.unlink()
                freed += size
        return freed

    def _entries(self) -> list[tuple[int, int, Path]]:
        out = []
        with suppress(OSError):
            for entry in os.scandir(self.folder):
                if entry.name.endswith(".safetensors"):
                    with suppress(OSError):  # another process may remove it at this moment
                        stat = entry.stat()
                        out.append((stat.st_mtime_ns, stat.st_size, Path(entry.path)))
        return sorted(out)

    def _shrink(self, keep: Path) -> None:
        sweep(self.folder, deep=False)
        entries = self._entries()
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total <= self.limit:
                return
            if path != keep:
                with suppress(OSError):
                    path.unlink()
                total -= size

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            what = error.strerror or str(error)
            warnings.warn(f"the cache in {self.folder} takes nothing more ({what}); going on without it", stacklevel=3)


def _pack(tensors: Mapping[str, Tensor]) -> bytes:
    # Clones: the format refuses tensors that share memory. The checksum finds flipped bits, which the format does not.
    own = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    return save(own, {"sha256": hashlib.sha256(save(own)).hexdigest(), "time": str(int(time.time()))})


def _unpack(blob: bytes) -> dict[str, Tensor]:
    (length,) = struct.unpack_from("<Q", blob)
    head = json.loads(blob[8 : 8 + length])
    tensors = load(blob)
    if hashlib.sha256(save(tensors)).hexdigest() != head["__metadata__"]["sha256"]:
        raise ValueError("checksum")
    return tensors
