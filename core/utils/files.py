"""Files that are either whole or not there: written under a temporary name, flushed, then renamed."""

from __future__ import annotations

import errno
import math
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from counterlens.core.errors import CounterlensError, MissingError, RunFailed

try:
    import fcntl
except ImportError:  # Windows has no flock: one process at a time there
    fcntl = None  # type: ignore[assignment]

HOST = "".join(c if c.isalnum() else "_" for c in socket.gethostname())[:32] or "host"
OLD = 86400.0  # seconds after which the leftover of another machine is swept too


def cache_folder() -> Path:
    """$COUNTERLENS_CACHE, or ~/.cache/counterlens."""
    return Path(os.environ.get("COUNTERLENS_CACHE") or Path.home() / ".cache" / "counterlens").expanduser()


def temporary(path: Path) -> Path:
    """A name beside ``path`` that says whose it is, so that leftovers can be told from files being written."""
    return path.with_name(f"{path.name}.tmp-{HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}")


def write_atomic(path: Path, data: bytes, flush: bool = True) -> None:
    """Write, flush to the disk, rename. After any failure (OSError) the old file, if any, is still there and whole.

    Without ``flush`` a power cut may tear the file: for what is checked against a hash when it is read.
    """
    part = temporary(path)
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            write_all(fd, data)
            if flush:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    if flush:
        _flush_folder(path.parent)


def write_all(fd: int, data: bytes) -> None:
    """os.write until everything is written (it may take less than it was given)."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _flush_folder(folder: Path) -> None:
    # The rename itself must survive a power cut; file systems that cannot do this are left alone.
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def sweep(folder: Path, *, deep: bool = True) -> list[Path]:
    """Remove what killed writers left (``*.tmp-*``); the files of a living process stay. Returns what was removed."""
    found = [p for p in (folder.rglob if deep else folder.glob)("*.tmp-*") if _abandoned(p)]
    for path in found:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()
    return found


def _abandoned(path: Path) -> bool:
    host, _, rest = path.name.rpartition(".tmp-")[2].partition("-")
    pid = rest.partition("-")[0]
    if host == HOST and pid.isdigit():
        return not alive(int(pid))
    try:
        return time.time() - path.stat().st_mtime > OLD
    except OSError:
        return False


def alive(pid: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock on ``path`` (made if missing); the system frees it when its holder is killed."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl is not None:
            with suppress(OSError):  # some network file systems have no locks: then last writer wins, still whole files
                fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError of a write to ``path`` into one clear line."""
    try:
        yield
    except OSError as error:
        raise _explain(path, error) from error


def _explain(path: Path, error: OSError) -> CounterlensError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        where = f"no space left to write {path.name} in {path.parent}"
        return MissingError(f"{where}: free some or choose another --out, then run again; what was finished is kept")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return MissingError(f"no permission to write {path}: choose another --out")
    return RunFailed(f"cannot write {path}: {error.strerror or error}")


def plain(obj: Any) -> Any:
    """What strict JSON can hold: numbers that are not finite become null, numpy scalars numbers, paths text."""
    if isinstance(obj, Mapping):
        return {str(k): plain(v) for k, v in obj.items()}
    if isinstance(obj, (list, tuple, set, frozenset)):
        return [plain(x) for x in obj]
    if isinstance(obj, float):
        return float(obj) if math.isfinite(obj) else None
    if obj is None or isinstance(obj, (bool, int, str)):
        return obj
    if hasattr(obj, "model_dump"):
        return plain(obj.model_dump(mode="json"))
    if hasattr(obj, "tolist"):
        return plain(obj.tolist())
    return str(obj)
