"""A run's folder: what was asked, what came out, and nothing half-written.

``<root>/<time>-<method>-<digest8>/`` holds ``manifest.json``, ``items/<digest>/`` (``item.json`` and its pictures),
``log.jsonl`` and the reports. A picture is written before the ``item.json`` that holds its sha256, so an item is either
finished or it is done again. Several processes may work on one run: a lock per run keeps their items apart.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import UsageError, unknown
from counterlens.core.utils.digest import digest, file_sha256
from counterlens.core.utils.files import (
    HOST,
    alive,
    explained,
    locked,
    plain,
    sweep,
    temporary,
    write_all,
    write_atomic,
)

if TYPE_CHECKING:
    from PIL import Image


# Who, where, how fast, and what happened to be in the cache.
VOLATILE = frozenset(
    {"seconds", "seconds_reused", "unet_evaluations_reused", "peak_bytes", "counterfactual", "rows", "hash"}
)


def record_hash(record: Mapping[str, Any]) -> str:
    """The hash of a record's result: the same on any worker, engine and order (on one type of device)."""
    return digest({key: value for key, value in record.items() if key not in VOLATILE})


AGAIN = ("missing", "never", "always")
STATUS = ("running", "done", "failed", "interrupted")
LOCK = ".lock"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass
class Run:
    """An open run folder. ``reused``: it was there before; ``manifest`` is what its file said when last read."""

    path: Path
    manifest: dict[str, Any]
    reused: bool = False
    _logged: bool = field(default=False, repr=False)

    @classmethod
    def create(
        cls, root: str | Path, method: str, digest: str, manifest: Mapping[str, Any], again: str = "missing"
    ) -> Run:
        """The run of ``digest`` below ``root``: the latest one there is, or a new folder.

        ``missing`` keeps its finished items and marks it running again, ``never`` returns it untouched, ``always``
        makes a new folder. MissingError if the disk is full or may not be written.
        """
        if again not in AGAIN:
            raise unknown("--again", again, AGAIN)
        root = Path(root)
        with explained(root / "manifest.json"):
            root.mkdir(parents=True, exist_ok=True)
            sweep(root, deep=False)
            with locked(root / LOCK):  # two processes that start at once get one folder
                old = None if again == "always" else _latest(root, digest)
                if old is None:
                    return _new(root, method, digest, manifest)
                if again == "missing":
                    sweep(old.path)
                    old._update({**manifest, **_started(), "resumed": old.manifest.get("resumed", 0) + 1})
        return old

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run folder, leftovers of killed writers removed; UsageError if it is none."""
        path = Path(path)
        found = _read(path)
        if found is None:
            raise UsageError(f"{path}: not a run folder (no readable manifest.json); see: counterlens runs list")
        with suppress(OSError):
            sweep(path)
        found.reused = True
        return found

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def status(self) -> str:
        """running, done, failed or interrupted; a run whose process is no more is interrupted."""
        said = str(self.manifest.get("status", "interrupted"))
        gone = self.manifest.get("host") == HOST and not alive(int(self.manifest.get("pid", 0)))
        return "interrupted" if said == "running" and gone else said

    def finished(self, item: str) -> dict[str, Any] | None:
        """The record of an item that is as it was written, and its pictures too, else None."""
        folder = self._item(item)
        try:
            record = json.loads((folder / "item.json").read_bytes())
            whole = all(file_sha256(folder / _safe(name)) == sha for name, sha in record["pictures"].items())
            whole = whole and record.get("hash", "") in ("", record_hash(record))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError):
            return None
        return record if whole else None

    def items(self) -> list[str]:
        """Digests of the finished items, sorted."""
        with suppress(OSError):
            return sorted(p.name for p in (self.path / "items").iterdir() if p.is_dir() and self.finished(p.name))
        return []

    def write_item(
        self, item: str, record: Mapping[str, Any], images: Mapping[str, Image.Image | bytes]
    ) -> dict[str, Any]:
        """Write an item whole: ``images`` by name (``counterfactual`` -> counterfactual.png; bytes are written as they
        are, under their full name), then ``item.json``.

        Returns the record as written: numbers that are not finite are null, ``pictures`` maps file names to sha256,
        ``hash`` names the result (core/runs/folder.py). Only item.json waits for the disk: hashes tell what was torn.
        """
        folder = self._item(item)
        files = {
            _safe(name if isinstance(im, bytes) or name.endswith(".png") else f"{name}.png"): _png(im)
            for name, im in images.items()
        }
        with explained(folder / "item.json"):
            folder.mkdir(parents=True, exist_ok=True)
            with locked(self.path / LOCK):
                for name, data in files.items():
                    write_atomic(folder / name, data, flush=False)
                sums = {name: file_sha256(folder / name) for name in files}
                whole = {**plain(record), "pictures": sums}
                whole["hash"] = record_hash(whole)
                write_atomic(folder / "item.json", _json(whole))
                for stale in folder.glob("*.png"):
                    if stale.name not in files:
                        stale.unlink(missing_ok=True)
        return whole

    def write(self, name: str, data: str | bytes | Mapping[str, Any] | list[Any]) -> Path:
        """Write a file of the run, whole: text, bytes, or a value as JSON (report.html, report.json)."""
        path = self.path / _safe(name)
        content = data if isinstance(data, bytes) else data.encode() if isinstance(data, str) else _json(plain(data))
        with explained(path):
            write_atomic(path, content)
        return path

    def log(self, event: Mapping[str, Any]) -> None:
        """Add one line, with the time, to log.jsonl; a line that a kill tore is left behind and closed off."""
        path = self.path / "log.jsonl"
        line = (json.dumps({"time": _now(), **plain(event)}, ensure_ascii=False) + "\n").encode()
        with explained(path), locked(self.path / LOCK):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                write_all(fd, (b"" if self._logged else _closing(fd)) + line)
            finally:
                os.close(fd)
        self._logged = True

    def events(self) -> list[dict[str, Any]]:
        """The lines of log.jsonl that can be read."""
        out = []
        with suppress(OSError):
            for line in (self.path / "log.jsonl").read_bytes().splitlines():
                with suppress(ValueError):
                    out.append(json.loads(line))
        return out

    def finish(self, status: str, **extra: Any) -> None:
        """Close the run: ``done``, ``failed`` or ``interrupted``, and whatever else belongs into the manifest."""
        if status not in STATUS:
            raise ValueError(f"unknown status {status!r}: {', '.join(STATUS)}")
        with explained(self.path / "manifest.json"), locked(self.path / LOCK):
            self._update({**extra, "status": status, "finished": _now()})

    def _update(self, values: Mapping[str, Any]) -> None:
        # Read again first: another process may have written since.
        now = _read(self.path)
        self.manifest = {**(now.manifest if now else self.manifest), **plain(values)}
        write_atomic(self.path / "manifest.json", _json(self.manifest))

    def _item(self, item: str) -> Path:
        return self.path / "items" / _safe(item)


def list_runs(root: str | Path) -> list[Run]:
    """The runs below a folder, newest first; what is no run is passed over."""
    with suppress(OSError):
        found = [run for path in Path(root).iterdir() if ".tmp-" not in path.name and (run := _read(path))]
        return sorted(found, key=lambda run: (str(run.manifest.get("created", "")), run.name), reverse=True)
    return []


def _latest(root: Path, digest: str) -> Run | None:
    found = next((run for run in list_runs(root) if run.manifest.get("digest") == digest), None)
    if found:
        found.reused = True
    return found


def _new(root: Path, method: str, digest: str, manifest: Mapping[str, Any]) -> Run:
    time = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")
    stem = f"{time}-{_safe(method)}-{_safe(digest)[:8]}"
    names = (stem if k == 1 else f"{stem}-{k}" for k in range(1, 10_000))
    path = next(root / name for name in names if not (root / name).exists())
    content = plain({**manifest, "digest": digest, "created": _now(), **_started()})
    content.setdefault("method", method)
    # The folder appears with its manifest in it, or not at all.
    part = temporary(path)
    part.mkdir()
    try:
        write_atomic(part / "manifest.json", _json(content))
        part.rename(path)
    except BaseException:
        with suppress(OSError):
            part.rmdir()
        raise
    return Run(path, content)


def _started() -> dict[str, Any]:
    return {"status": "running", "started": _now(), "pid": os.getpid(), "host": HOST}


def _read(path: Path) -> Run | None:
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
    except (OSError, ValueError):
        return None
    return Run(path, manifest) if isinstance(manifest, dict) and "digest" in manifest else None


def _closing(fd: int) -> bytes:
    """A line end if the file does not have one at its end."""
    size = os.fstat(fd).st_size
    if not size:
        return b""
    os.lseek(fd, size - 1, os.SEEK_SET)
    return b"" if os.read(fd, 1) == b"\n" else b"\n"


def _safe(name: str) -> str:
    if not _NAME.fullmatch(name) or ".tmp-" in name:
        raise UsageError(f"{name!r} cannot be the name of a file of a run: letters, digits, '.', '_' and '-' only")
    return name


def _png(image: Image.Image | bytes) -> bytes:
    if isinstance(image, bytes):
        return image
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")
